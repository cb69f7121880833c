"""The sample and the quickstart, with the hashing embedder; `make quickstart` itself uses the real one."""

import socket
import urllib.error
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.ports import IndexInfo
from tools.quickstart import BLOGGER, NOTE_TAKER, make_repository, quickstart
from tools.sample_site import PORT, SAMPLE, sample_site


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:256")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])  # the usual one may be another test's
    return lambda *words: CliRunner().invoke(quickstart, ["--port", port, *words])


def test_the_quickstart_answers_with_links_and_a_second_one_does_nothing(typed, tmp_path):
    first = typed()
    links, stored, index = what_is_there()
    again = typed("--question", "How large is the key-value cache?")
    _, stored_again, index_again = what_is_there()

    assert first.exit_code == 0, first.output
    assert "/posts/why-cpus-wait.html" in first.output
    assert f'poe forget --author "{BLOGGER}"' in first.output
    assert NOTE_TAKER in first.output
    assert len([link for link in links if link.startswith("http://127.0.0.1")]) >= 12
    assert {urlsplit(link).scheme for link in links} >= {"http", "file"}
    assert not [link for link in links if "utm_" in link]
    assert again.exit_code == 0, again.output
    assert stored_again == stored
    assert index_again == index
    assert "the-cache-that-eats-your-memory" in again.output


def what_is_there() -> tuple[list[str], dict[str, int], IndexInfo | None]:
    """The links and the revisions of all documents, and which index is read."""
    with open_platform() as platform, closing(platform.vectors.reader()) as reader:
        documents = list(platform.warehouse.documents())
        revisions = {document.id: document.revision for document in documents}
        return [document.link for document in documents], revisions, reader.info()


def test_the_sample_repository_is_the_same_commit_everywhere(tmp_path):
    made = [make_repository(tmp_path / name) for name in ("one", "two", "one")]
    one, two, again = [(folder / ".git/refs/heads/main").read_text() for folder in made if folder]
    assert one == two == again


def test_without_git_the_repository_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_repository(tmp_path) is None
    assert "git is not installed" in capsys.readouterr().out


def test_every_page_of_the_sample_is_served_and_listed_in_its_sitemap_and_feed():
    posts = sorted(path.name for path in (SAMPLE / "site" / "posts").glob("*.html"))
    assert len(posts) >= 12
    with sample_site() as site:
        sitemap, feed = read(f"{site}/sitemap.xml"), read(f"{site}/feed.xml")
        for post in posts:
            assert f"{site}/posts/{post}" in sitemap
            assert f"{site}/posts/{post}?utm_source=feed" in feed
            assert "Mira Halloran" in read(f"{site}/posts/{post}")


def test_the_links_of_the_sample_follow_the_port():
    with sample_site() as first, sample_site() as second:
        assert first != second
        page = read(f"{second}/posts/why-cpus-wait.html")
    assert second in page
    assert f"127.0.0.1:{PORT}/" not in page or second.endswith(f":{PORT}")


def test_an_unchanged_page_is_answered_without_its_body_and_a_missing_one_with_404():
    with sample_site() as site:
        answer = urllib.request.urlopen(f"{site}/about.html")
        again = urllib.request.Request(f"{site}/about.html", headers={"If-None-Match": answer.headers["ETag"]})
        with pytest.raises(urllib.error.HTTPError) as same:
            urllib.request.urlopen(again)
        with pytest.raises(urllib.error.HTTPError) as outside:
            urllib.request.urlopen(f"{site}/../sample_site.py")
    assert same.value.code == 304
    assert outside.value.code == 404


def read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()
