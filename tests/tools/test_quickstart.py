"""The sample and the quickstart, with the hashing embedder; `make quickstart` itself uses the real one."""

import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from llm_engineering.bootstrap import open_platform
from tools.quickstart import BLOGGER, NOTE_TAKER, make_repository, quickstart
from tools.sample_site import PORT, SAMPLE, sample_site


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:256")
    return lambda *words: CliRunner().invoke(quickstart, words)


def test_the_quickstart_answers_with_links_and_a_second_one_does_nothing(typed, tmp_path):
    first = typed()
    with open_platform() as twin:
        stored = {document.id: document.revision for document in twin.warehouse.documents()}
        links = [document.link for document in twin.warehouse.documents()]
    again = typed("--question", "How large is the key-value cache?")
    with open_platform() as twin:
        stored_again = {document.id: document.revision for document in twin.warehouse.documents()}

    assert first.exit_code == 0, first.output
    assert "/posts/why-cpus-wait.html" in first.output
    assert f'poe forget --author "{BLOGGER}"' in first.output
    assert NOTE_TAKER in first.output
    assert len([link for link in links if link.startswith("http://127.0.0.1")]) >= 12
    assert {urlsplit(link).scheme for link in links} >= {"http", "file"}
    assert not [link for link in links if "utm_" in link]
    assert again.exit_code == 0, again.output
    assert stored_again == stored
    assert "0 passages embedded" in again.output
    assert "the-cache-that-eats-your-memory" in again.output


def test_the_sample_repository_is_the_same_commit_everywhere(tmp_path):
    one, two = make_repository(tmp_path / "one"), make_repository(tmp_path / "two")
    heads = [(folder / ".git/refs/heads/main").read_text() for folder in (one, two)]
    assert heads[0] == heads[1]
    assert make_repository(tmp_path / "one") == one


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
