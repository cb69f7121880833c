"""Files on this machine: what is read, what is passed over, and what a wrong path gets."""

import base64
import os
import time

import pytest
from fetch_context import NOTHING

from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.sources import Page, Skipped, Target, source_for
from llm_engineering.features.sources.local_files import SOURCE, link_of


@pytest.fixture
def notes(tmp_path):
    root = tmp_path / "notes"
    (root / "deep").mkdir(parents=True)
    (root / "a.md").write_text("# A\n\nit's here\n")
    (root / "b.HTML").write_text("<p>b</p>")
    (root / "c.txt").write_text("c")
    (root / "d.ipynb").write_text('{"cells": []}')
    (root / "e.pdf").write_bytes(b"%PDF-1.4\n\xff\x00")
    (root / "deep" / "f g.markdown").write_text("f")
    return root


def read(path, etag=None, **options):
    link = link_of(str(path), options)
    items = list(SOURCE.crawl(Target(link, str(path), etag=etag, options=options), NOTHING))
    pages = {item.meta["path"]: item for item in items if isinstance(item, Page)}
    return pages, {item.why: item.count for item in items if isinstance(item, Skipped)}


def settle(root):
    """As if everything had been written an hour ago."""
    for path in root.rglob("*"):
        if path.is_file():
            hour_ago = time.time() - 3600
            os.utime(path, (hour_ago, hour_ago))


def test_a_folder_gives_every_file_of_a_known_type(notes):
    pages, skipped = read(notes)
    assert list(pages) == ["a.md", "b.HTML", "c.txt", "d.ipynb", "deep/f g.markdown", "e.pdf"]
    assert skipped == {}
    assert [page.media_type for page in pages.values()] == [
        "text/markdown", "text/html", "text/plain", "application/x-ipynb+json", "text/markdown", "application/pdf",
    ]  # fmt: skip
    assert pages["a.md"].body == "# A\n\nit's here\n"
    assert pages["deep/f g.markdown"].link == f"{link_of(str(notes), {})}/deep/f%20g.markdown"
    assert pages["e.pdf"].encoding == "base64"
    assert base64.b64decode(pages["e.pdf"].body) == b"%PDF-1.4\n\xff\x00"


def test_one_file_and_a_pattern_are_read_too(notes):
    assert list(read(notes / "a.md")[0]) == ["a.md"]
    assert list(read(notes / "**" / "*.m*")[0]) == ["a.md", "f g.markdown"]
    assert list(read(notes / "[ab].*")[0]) == ["a.md", "b.HTML"]


def test_patterns_choose_by_name_or_by_path(notes):
    assert list(read(notes, include="*.md")[0]) == ["a.md"]
    assert list(read(notes, include=["*.md", "deep/*"])[0]) == ["a.md", "deep/f g.markdown"]
    pages, skipped = read(notes, exclude=["deep/*", "*.pdf"])
    assert "e.pdf" not in pages
    assert skipped == {"excluded": 2}
    with pytest.raises(SourceError, match="include is a pattern"):
        read(notes, include=3)


def test_a_path_is_relative_to_where_one_stands(notes, monkeypatch):
    monkeypatch.chdir(notes.parent)
    assert link_of("./notes", {}) == link_of("notes/", {}) == link_of(str(notes), {})
    assert link_of(notes.as_uri(), {}) == link_of(str(notes), {})


@pytest.mark.parametrize("name", ["nowhere", "no*where"])
def test_a_missing_path_says_which_was_tried(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        read(name)
    assert caught.value.reason == Reason.MISSING_FILE
    assert str(tmp_path / name) in caught.value.detail


def test_what_is_no_readable_text_is_passed_over_and_counted(notes):
    (notes / ".hidden.md").write_text("x")
    (notes / ".git").mkdir()
    (notes / "program.md").write_bytes(b"\x7fELF\x00\x01")
    (notes / "photo.jpg").write_bytes(b"x")
    (notes / "empty.md").write_text(" \n")
    (notes / "fake.pdf").write_bytes(b"<html>")
    os.mkfifo(notes / "pipe.md")
    with (notes / "huge.txt").open("wb") as file:
        file.truncate(50_000_001)
    pages, skipped = read(notes)
    assert len(pages) == 6
    assert skipped == {"hidden": 2, "binary": 1, "other type": 1, "empty": 1, "no PDF inside": 1, "too large": 1,
                       "no regular file": 1}  # fmt: skip


def test_a_link_never_leads_out_of_the_folder(notes, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("secret")
    (notes / "key.txt").symlink_to(secret / "key.txt")
    (notes / "all").symlink_to(secret)
    (notes / "round").symlink_to(notes)
    pages, skipped = read(notes)
    assert len(pages) == 6
    assert skipped == {"symlink": 3}
    assert read(notes / "k*.txt") == ({}, {"symlink": 1})


@pytest.mark.parametrize("pattern", ["*/*", "*/*.txt", "**/*.txt", "**/*", "*/*/key.txt", "a*/k*.txt", "deep/k*.txt"])
def test_a_pattern_follows_no_link(notes, tmp_path, pattern):
    secret = tmp_path / "secret" / "deep"
    secret.mkdir(parents=True)
    for folder in (secret, secret.parent):
        (folder / "key.txt").write_text("root's own")
    (notes / "all").symlink_to(secret.parent)
    (notes / "around").symlink_to(notes)
    (notes / "deep" / "key.txt").symlink_to(secret / "key.txt")
    pages, skipped = read(notes / pattern)
    assert not any("root's own" in page.body for page in pages.values())
    assert skipped["symlink"] >= 1


def test_a_pattern_passes_over_what_is_hidden(notes):
    (notes / ".secret").mkdir()
    for name in (".hidden.md", ".secret/x.md"):
        (notes / name).write_text("hidden")
    pages, skipped = read(notes / "*.md")
    assert ".hidden.md" not in pages
    assert skipped["hidden"] == 1
    assert read(notes / "*" / "x.md") == ({}, {"hidden": 1})


def test_a_file_that_becomes_a_link_after_it_was_found_is_not_read(notes, tmp_path):
    (tmp_path / "secret.txt").write_text("root's own")
    link = link_of(str(notes), {})
    items = SOURCE.crawl(Target(link, str(notes)), NOTHING)
    next(items)
    for path in notes.rglob("*"):
        if path.is_file():
            path.unlink()
            path.symlink_to(tmp_path / "secret.txt")
    assert list(items) == [Skipped("symlink", 5)]


def test_a_folder_that_is_itself_a_link_is_read(notes, tmp_path):
    (tmp_path / "here").symlink_to(notes)
    assert len(read(tmp_path / "here")[0]) == 6


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
        ("café".encode("utf-16"), "café"),
        (b'<meta charset="iso-8859-1"><p>caf\xe9', '<meta charset="iso-8859-1"><p>café'),
        ("Привет, это старый текст в кодировке.".encode("cp1251"), "Привет, это старый текст в кодировке."),
    ],
)
def test_old_encodings_are_read(notes, data, text):
    (notes / "old.html").write_bytes(data)
    assert read(notes / "old.html")[0]["old.html"].body == text


def test_a_wrongly_declared_encoding_is_not_believed(notes):
    (notes / "old.html").write_bytes(b'<meta charset="no-such-thing"><p>caf\xe9 et th\xe9 \xe0 la cr\xe8me')
    assert "caf" in read(notes / "old.html")[0]["old.html"].body


def test_an_untouched_folder_is_not_read_again(notes):
    settle(notes)
    etag = read(notes)[0]["a.md"].etag
    assert etag
    with pytest.raises(NotModified):
        read(notes, etag=etag)


@pytest.mark.parametrize("change", ["edit", "new", "gone", "rename", "options"])
def test_any_change_is_noticed(notes, change):
    settle(notes)
    etag = read(notes)[0]["a.md"].etag
    match change:
        case "edit":
            (notes / "a.md").write_text("# B")
        case "new":
            (notes / "z.md").write_text("z")
        case "gone":
            (notes / "a.md").unlink()
        case "rename":
            (notes / "a.md").rename(notes / "y.md")
    assert read(notes, etag=etag, **({"exclude": "*.txt"} if change == "options" else {}))[0]


def test_a_file_written_this_moment_is_read_again_next_time(notes):
    """It could be edited once more within the resolution of its time stamp."""
    assert read(notes)[0]["a.md"].etag is None


@pytest.mark.parametrize("name", ["a.md", "deep"])
def test_what_may_not_be_read_is_no_removed_file(notes, name):
    """The rest is read, and the link fails, so that nothing is deleted."""
    (notes / name).chmod(0)
    try:
        if os.access(notes / name, os.R_OK):
            pytest.skip("this user may read everything")
        link = link_of(str(notes), {})
        items = SOURCE.crawl(Target(link, str(notes)), NOTHING)
        pages = []
        with pytest.raises(SourceError, match="1 files or folders cannot be read") as caught:
            pages.extend(items)
        assert len(pages) == 5
        assert caught.value.retry
    finally:
        (notes / name).chmod(0o700)


def test_a_file_that_goes_while_the_folder_is_read_is_passed_over(notes):
    link = link_of(str(notes), {})
    items = SOURCE.crawl(Target(link, str(notes)), NOTHING)
    first = next(items)
    assert isinstance(first, Page)
    assert first.meta["path"] == "a.md"
    (notes / "c.txt").unlink()
    rest = list(items)
    assert rest[-1] == Skipped("vanished")


def test_file_links_are_this_source_s_own():
    assert source_for("file:///notes") is SOURCE
