"""Archives and folders from outside: tricks with paths, links and sizes are refused, and nothing is unpacked."""

import os
import stat
import struct
import zipfile

import pytest
from fetch_context import NOTHING

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.reading.archive import ArchiveError, Limits, open_archive
from llm_engineering.features.sources import Target
from llm_engineering.features.sources.linkedin import SOURCE, link_of

GOOD = "Date,ShareLink,ShareCommentary\r\n2024-01-01,https://linkedin.com/posts/a,x\r\n"


def packed(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Shares.csv", GOOD)
        for name, content in members:
            file.writestr(name, content)
    return path


def refused(path):
    """As a run sees it: the reason, no retry, and nothing else on the disk than before."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(SourceError) as caught:
        list(SOURCE.crawl(Target(link_of(str(path), {}), str(path)), NOTHING))
    assert (caught.value.reason, caught.value.retry) == (Reason.BAD_ARCHIVE, False)
    assert sorted(path.parent.rglob("*")) == before
    return caught.value.detail


@pytest.mark.parametrize(
    "name", ["../../evil.csv", "a/../../evil.csv", "/etc/evil.csv", "C:/evil.csv", "a\\..\\evil.csv"]
)
def test_a_path_that_leaves_the_archive_is_refused(tmp_path, name):
    assert "evil" in refused(packed(tmp_path / "x.zip", (name, "x")))


def test_a_symbolic_link_in_an_archive_is_refused(tmp_path):
    link = zipfile.ZipInfo("Articles/leak.html")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "symbolic link" in refused(packed(tmp_path / "x.zip", (link, "/etc/passwd")))


def test_a_symbolic_link_in_an_unpacked_export_is_refused(tmp_path):
    root = tmp_path / "export"
    (root / "Articles").mkdir(parents=True)
    (root / "Shares.csv").write_text(GOOD)
    (root / "Articles" / "leak.html").symlink_to("/etc/passwd")
    assert "symbolic link" in refused(root)


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    assert "would unpack to 30,000,000 bytes" in refused(
        packed(tmp_path / "x.zip", ("Articles/a.html", b"0" * 30_000_000))
    )


def test_a_bomb_that_lies_about_its_size_is_refused_while_reading(tmp_path):
    path = packed(tmp_path / "x.zip", ("Articles/a.html", b"0" * 2_000_000))
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", 2_000_000)
    while size in data:
        place = data.index(size)
        data[place : place + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    assert "Articles/a.html" in refused(path)


@pytest.fixture(params=["zip", "folder"])
def both(request, tmp_path):
    """Shares.csv and Articles/a.html, packed and unpacked."""
    if request.param == "zip":
        return packed(tmp_path / "x.zip", ("Articles/a.html", "<p>more than five</p>"))
    (tmp_path / "x" / "Articles").mkdir(parents=True)
    (tmp_path / "x" / "Shares.csv").write_text(GOOD)
    (tmp_path / "x" / "Articles" / "a.html").write_text("<p>more than five</p>")
    return tmp_path / "x"


def test_a_file_over_the_limit_is_refused(both):
    with open_archive(both, limits=Limits(file_bytes=30)) as opened:
        assert opened.read("Articles/a.html")
        with pytest.raises(ArchiveError, match=r"Shares\.csv .* more than 30 bytes"):
            opened.read("Shares.csv")


def test_too_many_files_are_refused(both):
    with pytest.raises(ArchiveError, match="more than 1"), open_archive(both, limits=Limits(files=1)):
        pass


def test_an_archive_over_the_limit_is_refused(tmp_path):
    path = packed(tmp_path / "x.zip", ("Articles/a.html", "<p>more than five</p>"))
    with open_archive(path, limits=Limits(all_bytes=len(GOOD) + 5)) as opened:
        assert opened.read("Shares.csv") == GOOD.encode()
        with pytest.raises(ArchiveError, match="more than 5 bytes"):
            opened.read("Articles/a.html")


def test_an_encrypted_archive_is_refused(tmp_path):
    path = packed(tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refused(path)


@pytest.mark.parametrize("content", [b"", b"this is no zip", b"PK\x03\x04 torn off"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert "zip" in refused(path)


def test_a_torn_archive_is_refused(tmp_path):
    path = packed(tmp_path / "x.zip", ("Articles/a.html", os.urandom(5_000)))
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    refused(path)


def test_a_damaged_file_inside_is_named(tmp_path):
    path = packed(tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    place = data.index(b"Shares.csv") + len("Shares.csv")
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    assert "Shares.csv is damaged" in refused(path)


def test_an_archive_of_something_else_says_so(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("holiday.jpg", b"x")
    assert "LinkedIn's data export" in refused(path)


def test_names_are_sorted_and_folders_left_out(tmp_path):
    path = packed(tmp_path / "x.zip", ("b/", ""), ("b/2", "x"), ("a", "x"))
    with open_archive(path) as opened:
        assert opened.names == ("Shares.csv", "a", "b/2")
        assert opened.read("a") == b"x"


@pytest.mark.parametrize("both", ["folder"], indirect=True)  # a zip is open while it is read
def test_what_vanishes_from_an_unpacked_export_is_named(both):
    with open_archive(both) as opened:
        (both / "Shares.csv").unlink()
        with pytest.raises(ArchiveError, match=r"Shares\.csv cannot be read: No such file"):
            opened.read("Shares.csv")
