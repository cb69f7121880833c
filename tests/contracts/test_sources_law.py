"""The law every source obeys. It runs over SOURCES, so a new one is held to it, and needs its saved page to be merged.

A saved page is a folder tests/pages/NAME with a case.json: the config `line` ("{here}" is the folder), which file to
`serve` for which address, the folder that becomes a `git` repository, how many `documents` come of it, and what must
and must_not be in their cleaned text.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.bootstrap import build_warehouse
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Outcome, Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext, Fetched
from llm_engineering.features.config import AuthorConfig, GitConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.sources import SOURCES, source_for, source_named
from llm_engineering.infrastructure.sandbox import InProcess

PAGES = Path(__file__).resolve().parent.parent / "pages"
EVERY = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
LINKS = (
    "https://example.com/p/on-naming?a=1", "https://ann.medium.com/on-naming-0123456789ab", "https://medium.com/@ann",
    "https://medium.com/p/0123456789ab", "https://ann.substack.com/p/on-naming/comments", "https://github.com/Ann/Code",
    "https://github.com/Ann/Code.git", "https://github.com/ann/code/tree/HEAD", "https://github.com/ann",
    "https://de.linkedin.com/posts/ann_x?trk=y", "https://linkedin.com/feed/update/urn%3Ali%3Ashare%3A7", "file:///a/b",
    "git+file:///a/b.git", "git+https://example.com/a", "langchain:TextLoader#1", "https://medium.com.evil.example/x",
)  # fmt: skip


class Saved:
    """Plays the fetcher and the browser from files; any other address does not exist."""

    def __init__(self, folder, serve):
        self.folder, self.serve = folder, serve

    def get(self, url, **how):
        if url not in self.serve:
            raise SourceError(url, Reason.NOT_FOUND, "HTTP 404", retry=False)
        body = (self.folder / self.serve[url]).read_bytes()
        return Fetched(url, 200, "text/html", body.decode(), body)

    def login(self, url, fields, submit):
        raise SourceError(url, Reason.LOGIN, "there is no form", retry=False)

    def close(self):
        pass


class Scene:
    """One source's saved page, and a crawl of it."""

    def __init__(self, source, tmp_path):
        if not (PAGES / source.name / "case.json").exists():
            pytest.fail(f"save a page for {source.name}: tests/pages/{source.name}/case.json, see docs/add-a-source.md")
        self.here = Path(shutil.copytree(PAGES / source.name, tmp_path / "here"))
        self.case = json.loads((self.here / "case.json").read_text().replace("{here}", str(self.here)))
        if folder := self.case.get("git"):
            who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
            for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
                subprocess.run(["git", *who, *words], cwd=self.here / folder, check=True, capture_output=True)
        self.warehouse, self.ledger = build_warehouse(f"sqlite:///{tmp_path}/warehouse.db")

    def crawl(self, **more):
        from llm_engineering.bootstrap import build_repositories

        saved = Saved(self.here, self.case.get("serve", {}))
        context = FetchContext(
            fetch=saved,
            browser=lambda: saved,
            repositories=build_repositories(GitConfig()),
            sandbox=InProcess(),
        )
        author = AuthorConfig(name="Ann", links=[self.case["line"]])
        return crawl_author(
            author,
            context=context,
            warehouse=self.warehouse,
            ledger=self.ledger,
            concurrency=2,
            min_success_rate=0.5,
            **more,
        )


@pytest.fixture
def scene(source, tmp_path):
    one = Scene(source, tmp_path)
    yield one
    one.warehouse.close()


@EVERY
def test_its_saved_page_becomes_its_documents(source, scene):
    report = scene.crawl()
    documents = list(scene.warehouse.documents())
    assert (report.read, report.failed, len(documents)) == (1, 0, scene.case["documents"])
    assert report.by_source == {source.name: 1}
    for document in documents:
        assert document.source == source.name
        assert document.body
        assert document.media_type == document.media_type.lower()
        assert document.link == source.canonical(canonical_link(document.link))
        assert document.url


@EVERY
def test_what_its_author_wrote_survives_cleaning_and_nothing_else(source, scene):
    scene.crawl()
    texts = "\n".join(source.clean(document.body, document.media_type).text for document in scene.warehouse.documents())
    for words in scene.case["must"]:
        assert words in texts
    for words in scene.case["must_not"]:
        assert words not in texts


@EVERY
def test_a_second_crawl_changes_nothing(source, scene):
    scene.crawl()
    token = [change.token for change in scene.warehouse.changes(None)][-1]
    report = scene.crawl()
    assert (report.unchanged, report.read, report.failed) == (1, 0, 0)
    assert list(scene.warehouse.changes(token)) == []
    [entry] = scene.ledger.entries()
    assert (entry.outcome, entry.documents) == (Outcome.UNCHANGED, scene.case["documents"])


@EVERY
def test_asking_in_full_again_gives_the_same_documents(source, scene):
    scene.crawl()
    before = {document.id: document.content_hash for document in scene.warehouse.documents()}
    assert scene.crawl(revalidate=False).unchanged == 1
    assert {document.id: document.content_hash for document in scene.warehouse.documents()} == before


@EVERY
def test_what_is_not_there_is_reported_and_not_raised(source, scene):
    """The whole place is taken away before the first crawl."""
    shutil.rmtree(scene.here)
    scene.case["serve"] = {}
    from llm_engineering.domain.errors import TooFewRead

    with pytest.raises(TooFewRead) as caught:
        scene.crawl()
    assert caught.value.report
    [failure] = caught.value.report.failures
    assert failure.reason in Reason
    assert failure.detail
    assert list(scene.warehouse.documents()) == []


@EVERY
@pytest.mark.parametrize("link", LINKS)
def test_its_canonical_link_is_final(source, link):
    once = source.canonical(canonical_link(link))
    assert source.canonical(once) == once
    assert canonical_link(once) == once


@EVERY
@given(path=st.text(alphabet="abA@/-_.%20?=&:", max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_its_canonical_link_is_final_for_any_path(source, path):
    for host in ("example.com", "medium.com", "x.substack.com", "github.com", "de.linkedin.com"):
        once = source.canonical(canonical_link(f"https://{host}/{path}"))
        assert source.canonical(canonical_link(once)) == once


@pytest.mark.parametrize("source", SOURCES[:-1], ids=lambda source: source.name)  # the catch-all takes every page
def test_no_look_alike_gets_it(source):
    for host in ("medium.com", "substack.com", "github.com", "linkedin.com"):
        for look_alike in (
            f"https://{host}.evil.example/a/b",
            f"https://not{host}/a/b",
            f"https://evil.example/{host}/a",
        ):
            assert not source.owns(canonical_link(look_alike))


@EVERY
def test_it_owns_what_its_canonical_link_says(source):
    """Folding a link never hands it to somebody else."""
    for link in map(canonical_link, LINKS):
        if source.owns(link):
            assert source.owns(source.canonical(link))


def test_names_are_unique_and_found():
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert all(source_named(source.name) is source for source in SOURCES)


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("https://example.com/a", "web_article"),
        ("https://medium.com.evil.example/p/0123456789ab", "web_article"),
        ("https://medium.com/@ann/x-0123456789ab", "medium"),
        ("https://ann.medium.com/x-0123456789ab", "medium"),
        ("https://ann.substack.com/p/x", "substack"),
        ("https://github.com/ann/code", "github"),
        ("https://github.com/ann/code/issues/1", "web_article"),
        ("https://linkedin.com/posts/x", "linkedin"),
        ("https://engineering.linkedin.com/blog", "web_article"),
        ("git+file:///code", "github"),
        ("file:///notes", "local_files"),
        ("langchain:TextLoader#1", "langchain_loader"),
    ],
)
def test_every_link_has_one_source(link, name):
    assert source_for(link).name == name


def test_the_catch_all_is_asked_last():
    assert SOURCES[-1].name == "web_article"
    assert all(SOURCES[-1].owns(link) for link in LINKS if link.startswith("http"))


def test_a_link_of_nobody_s_is_refused():
    with pytest.raises(SourceError, match="no source reads nntp: links"):
        source_for("nntp:news")
