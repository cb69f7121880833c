"""What a crawl promises about links, documents and its colour; real site, real fetcher, real SQLite."""

import pickle
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fetch_context import fetch_context
from loopback import Answer

from llm_engineering.bootstrap import build_warehouse
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import ConfigError, SourceError, StoreUnavailable, TooFewRead
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.ledger import Outcome, Reason
from llm_engineering.features.config import AuthorConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.crawl.threads import QUEUED_PER_READER
from llm_engineering.features.sources import SOURCES, Page, Skipped, Source

ANN = Author(name="Ann").id


def read_page(target, context):
    answer = context.fetch.get(target.url, etag=target.etag, last_modified=target.last_modified)
    yield Page(url=answer.url, body=answer.text, etag=answer.etag, last_modified=answer.last_modified)


def list_links(address, context):
    yield from context.fetch.get(address).text.split()


PLAIN = Source(name="plain", kind=Kind.ARTICLE, crawl=read_page, owns=lambda link: link.startswith("http"),
               discover=list_links)  # fmt: skip


@pytest.fixture
def stores(tmp_path):
    warehouse, ledger = build_warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    yield warehouse, ledger
    warehouse.close()


@pytest.fixture
def crawl(stores, new_fetcher):
    warehouse, ledger = stores
    context = fetch_context(fetch=new_fetcher(per_host=8, attempts=1))

    def run(*links, name="Ann", concurrency=4, min_success_rate=0.5, sources=(PLAIN,), **more):
        return crawl_author(
            AuthorConfig(name=name, links=links),
            context=context,
            warehouse=warehouse,
            ledger=ledger,
            concurrency=concurrency,
            min_success_rate=min_success_rate,
            sources=sources,
            **more,
        )

    return run


def bodies(stores):
    return sorted(document.body for document in stores[0].documents())


def entry(stores, name):
    [found] = [one for one in stores[1].entries() if one.link.endswith(name)]
    return found


# --- reading ------------------------------------------------------------------------------------------------


def test_every_link_becomes_a_document_and_an_entry(crawl, stores, site):
    for name in ("a", "b", "c"):
        site.page(f"/{name}", f"<p>{name}</p>")
    report = crawl(*(site.url(f"/{name}") for name in "abc"))
    assert (report.links, report.read, report.failed, report.documents_inserted) == (3, 3, 0, 3)
    assert report.bodies_downloaded == 3
    assert report.bytes_downloaded == 3 * len("<p>a</p>")
    assert report.by_source == {"plain": 3}
    assert bodies(stores) == ["<p>a</p>", "<p>b</p>", "<p>c</p>"]
    [document] = stores[0].documents(crawled_from=site.url("/a"))
    assert document.id == stable_id("document", site.url("/a"))
    assert document.author.name == "Ann"
    assert document.link == document.crawled_from == site.url("/a")
    found = entry(stores, "/a")
    assert (found.outcome, found.reason, found.attempts, found.documents) == (Outcome.READ, None, 0, 1)
    assert found.last_success is not None


def test_one_page_spelled_five_ways_is_asked_once(crawl, site):
    site.page("/a", "x")
    report = crawl(site.url("/a"), site.url("/a/"), site.url("/a#top"), site.url("/a?utm_source=y"), site.url("/./a"))
    assert report.links == 1
    assert site.hits() == 1


def test_a_second_run_of_an_unchanged_site_does_nothing(crawl, stores, site):
    site.page("/a", "x", etag=True)
    site.page("/b", "y")  # a site without validators: asked in full, and still the same
    first = crawl(site.url("/a"), site.url("/b"))
    token = [change.token for change in stores[0].changes(None)][-1]
    second = crawl(site.url("/a"), site.url("/b"))
    assert (first.read, second.read, second.unchanged) == (2, 0, 2)
    assert second.bodies_downloaded == 1
    assert (second.documents_inserted, second.documents_updated) == (0, 0)
    assert list(stores[0].changes(token)) == []
    assert entry(stores, "/a").outcome == Outcome.UNCHANGED
    assert entry(stores, "/a").etag


def test_an_edited_page_is_followed(crawl, stores, site):
    site.page("/a", "old", etag=True)
    crawl(site.url("/a"))
    site.page("/a", "new", etag=True)
    report = crawl(site.url("/a"))
    assert (report.read, report.documents_updated) == (1, 1)
    assert bodies(stores) == ["new"]


def test_full_pages_are_asked_for_again_on_demand(crawl, site):
    site.page("/a", "x", etag=True)
    crawl(site.url("/a"))
    report = crawl(site.url("/a"), revalidate=False)
    assert (report.bodies_downloaded, report.unchanged) == (1, 1)


def test_validators_are_only_used_while_the_documents_are_there(crawl, stores, site):
    site.page("/a", "x", etag=True)
    crawl(site.url("/a"))
    stores[0].delete(list(stores[0].ids()))
    report = crawl(site.url("/a"))
    assert report.read == 1
    assert bodies(stores) == ["x"]


# --- gone, failed, dead -------------------------------------------------------------------------------------


def test_a_removed_page_is_gone_and_so_is_its_document(crawl, stores, site):
    site.page("/a", "x")
    site.page("/b", "y")
    crawl(site.url("/a"), site.url("/b"))
    site.remove("/a")
    report = crawl(site.url("/a"), site.url("/b"))
    assert (report.gone, report.failed, report.documents_deleted, report.red) == (1, 0, 1, "")
    assert bodies(stores) == ["y"]
    assert entry(stores, "/a").outcome == Outcome.GONE
    again = crawl(site.url("/a"), site.url("/b"))
    assert (again.gone, again.documents_deleted) == (1, 0)
    site.page("/a", "x")
    assert crawl(site.url("/a"), site.url("/b")).read == 1  # and it may come back
    assert bodies(stores) == ["x", "y"]


def test_a_page_that_never_was_is_dead_and_counts_as_failed(crawl, stores, site):
    site.page("/a", "x")
    report = crawl(site.url("/a"), site.url("/typo"))
    assert (report.read, report.failed) == (1, 1)
    [failure] = report.failures
    assert (failure.link, failure.reason, failure.retry) == (site.url("/typo"), Reason.NOT_FOUND, False)
    assert entry(stores, "/typo").outcome == Outcome.DEAD


def test_a_dead_link_is_left_alone_until_asked_for_or_a_week_later(crawl, stores, site):
    site.page("/a", "x")
    links = (site.url("/a"), site.url("/late"))
    crawl(*links)
    site.page("/late", "here now")
    resting = crawl(*links)
    assert (resting.failed, site.hits("/late")) == (1, 1)
    assert "--retry-failed" in resting.failures[0].detail
    assert entry(stores, "/late").attempts == 1
    in_a_week = lambda: datetime.now(UTC) + timedelta(days=8)  # noqa: E731
    assert crawl(*links, clock=in_a_week).failed == 0
    site.remove("/a")
    crawl(site.url("/a"), site.url("/other"), min_success_rate=0)
    site.page("/other", "z")
    assert crawl(site.url("/other"), retry_failed=True).read == 1


def test_a_failed_link_is_asked_again_by_every_run(crawl, stores, site):
    site.page("/a", "x", status=503)
    for attempts in (1, 2):
        report = crawl(site.url("/a"), min_success_rate=0)
        assert report.failures[0].retry
        assert entry(stores, "/a").outcome == Outcome.FAILED
        assert entry(stores, "/a").attempts == attempts
    site.page("/a", "x")
    assert crawl(site.url("/a")).read == 1
    found = entry(stores, "/a")
    assert (found.attempts, found.reason, found.detail) == (0, None, "")


def test_a_page_that_fails_later_keeps_its_document_and_its_validators(crawl, stores, site):
    site.page("/a", "x", etag=True)
    crawl(site.url("/a"))
    known = entry(stores, "/a")
    site.page("/a", "broken", status=500)
    crawl(site.url("/a"), min_success_rate=0)
    assert bodies(stores) == ["x"]
    found = entry(stores, "/a")
    assert (found.outcome, found.etag, found.documents) == (Outcome.FAILED, known.etag, 1)
    site.page("/a", "x", etag=True)
    assert crawl(site.url("/a")).bodies_downloaded == 0


@pytest.mark.parametrize("reason", [Reason.MISSING_CREDENTIALS, Reason.MISSING_FILE, Reason.ROBOTS])
def test_what_a_person_may_have_mended_is_asked_again(crawl, reason):
    asked = []

    def refuse(target, context):
        asked.append(target.link)
        raise SourceError(target.link, reason, "as before", retry=False)
        yield

    source = Source(name="mine", kind=Kind.ARTICLE, crawl=refuse, owns=lambda link: True)
    for _ in range(2):
        crawl("https://example.com/a", sources=(source,), min_success_rate=0)
    assert len(asked) == 2


def test_a_link_of_another_author_is_refused_instead_of_changing_hands(crawl, stores, site):
    site.page("/a", "x")
    crawl(site.url("/a"))
    with pytest.raises(TooFewRead, match="belongs to Ann already"):
        crawl(site.url("/a"), name="Bob")
    [document] = stores[0].documents()
    assert document.author.name == "Ann"
    assert entry(stores, "/a").author_id == ANN


# --- the colour ---------------------------------------------------------------------------------------------


def test_too_few_read_is_red_after_everything_is_recorded(crawl, stores, site):
    site.page("/a", "x")
    with pytest.raises(TooFewRead) as caught:
        crawl(site.url("/a"), site.url("/b"), site.url("/c"))
    report = caught.value.report
    assert report
    assert (report.read, report.failed) == (1, 2)
    assert report.red == str(caught.value)
    for word in ("Ann", "1 of 3", "50%", "2 not_found", site.url("/"), "crawl-status"):
        assert word in str(caught.value)
    assert bodies(stores) == ["x"]
    assert len(list(stores[1].entries(outcome=Outcome.DEAD))) == 2
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.report, str(copy)) == (report, str(caught.value))


def test_exactly_enough_is_green(crawl, site):
    site.page("/a", "x")
    assert crawl(site.url("/a"), site.url("/b")).red == ""


def test_no_link_at_all_is_red(crawl, site):
    site.page("/list", " ")
    with pytest.raises(TooFewRead) as caught:
        crawl({"plain": site.url("/list")})
    assert caught.value.report
    assert caught.value.report.failures[0].reason == Reason.EMPTY


def test_only_so_many_failures_are_listed_and_all_are_counted(crawl):
    links = [f"nonsense-{number}" for number in range(250)]
    report = crawl(*links, min_success_rate=0)
    assert (report.failed, len(report.failures)) == (250, 200)


def test_a_line_that_is_no_address_is_a_failed_link(crawl, stores, site):
    site.page("/a", "x")
    report = crawl(site.url("/a"), "example.com/forgot-the-scheme")
    assert report.failures[0].reason == Reason.BAD_LINK
    assert entry(stores, "forgot-the-scheme").outcome == Outcome.DEAD


# --- lists of links -----------------------------------------------------------------------------------------


def test_a_named_line_is_expanded_and_read_once(crawl, site):
    for name in "abc":
        site.page(f"/{name}", name)
    site.page("/list", "\n".join([*(site.url(f"/{name}") for name in "abc"), site.url("/a?utm_medium=rss")]))
    report = crawl({"plain": site.url("/list")}, site.url("/b"))
    assert (report.links, report.read, site.hits("/b")) == (3, 3, 1)


def test_a_limit_reads_no_more_links_than_it_says(crawl, site):
    site.page("/list", " ".join(site.url(f"/{number}") for number in range(9)))
    site.page("/0", "x")
    site.page("/1", "x")
    assert crawl({"plain": {"address": site.url("/list"), "limit": 2}}).links == 2


def test_a_list_that_cannot_be_read_is_one_failed_link_until_it_can(crawl, stores, site):
    site.page("/a", "x")
    links = (site.url("/a"), {"plain": site.url("/list")})
    report = crawl(*links)
    assert (report.links, report.failed) == (2, 1)
    assert entry(stores, "/list").reason == Reason.NOT_FOUND
    site.page("/list", site.url("/a"))
    assert crawl(*links).failed == 0
    assert list(stores[1].entries(outcome=(Outcome.FAILED, Outcome.DEAD))) == []


def test_a_page_its_list_no_longer_names_is_still_followed(crawl, stores, site):
    for name in "abc":
        site.page(f"/{name}", name, etag=True)
    line = {"plain": site.url("/list")}
    site.page("/list", " ".join(site.url(f"/{name}") for name in "abc"))
    crawl(line)
    site.page("/list", site.url("/a"))
    site.remove("/b")
    site.page("/c", "edited", etag=True)
    report = crawl(line)
    assert (report.links, report.unchanged, report.gone, report.read) == (3, 1, 1, 1)
    assert bodies(stores) == ["a", "edited"]
    assert entry(stores, "/c").found_in == f"plain:{site.url('/list')}"


@pytest.mark.parametrize("why", ["limit", "latest only", "no list", "list unread"])
def test_old_links_are_left_alone_where_a_list_says_nothing_about_them(crawl, stores, site, why):
    site.page("/a", "a")
    site.page("/b", "b")
    site.page("/list", f"{site.url('/a')} {site.url('/b')}")
    line = {"plain": site.url("/list")}
    crawl(line)
    site.page("/list", site.url("/a"))
    source = PLAIN
    match why:
        case "limit":
            line = {"plain": {"address": site.url("/list"), "limit": 5}}
        case "latest only":
            source = replace(PLAIN, latest_only=True)
        case "no list":
            line = site.url("/a")
        case "list unread":
            site.remove("/list")
    crawl(line, site.url("/a"), sources=(source,))
    assert site.hits("/b") == 1
    assert bodies(stores) == ["a", "b"]


def test_links_are_found_while_others_are_read(crawl, site):
    """A list without an end is no problem until it ends: reading starts with the first link."""
    site.page("/a", "x")
    heard = threading.Event()

    def endless(address, context):
        yield site.url("/a")
        assert heard.wait(30)  # only a document read in the meantime lets it go on
        yield site.url("/a?page=2")

    source = Source(name="plain", kind=Kind.ARTICLE, crawl=read_page, owns=lambda link: True, discover=endless)
    report = crawl({"plain": "anything"}, sources=(source,), on_progress=lambda one: heard.set())
    assert report.read == 2


def test_the_finder_never_runs_far_ahead_of_the_readers(crawl):
    """So the memory of a run does not grow with the number of links."""
    found, done, furthest = [], [], []

    def many(address, context):
        for number in range(600):
            found.append(number)
            furthest.append(len(found) - len(done))
            yield f"https://example.com/{number}"

    def tiny(target, context):
        yield Page(url=target.url, body=target.url)

    source = Source(name="plain", kind=Kind.ARTICLE, crawl=tiny, owns=lambda link: True, discover=many)
    report = crawl({"plain": "x"}, sources=(source,), concurrency=2, on_progress=done.append)
    assert report.read == 600
    assert max(furthest) <= 2 * QUEUED_PER_READER + 2 * 2 + 2  # unread, undelivered, and the one in hand


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"mediun": "@ann"}, "no source is called 'mediun'; known: medium, substack"),
        ({"local_files": {"address": ".", "inlcude": "*.md"}}, "no option inlcude; known: include, exclude"),
        ({"github": {"address": "ann", "limit": 0}}, "limit is a whole number"),
        ({"local_files": {"address": ".", "limit": 3}}, "no option limit"),
    ],
)
def test_a_typo_in_a_line_stops_the_run_before_anything_is_asked(crawl, stores, site, line, words):
    site.page("/a", "x")
    with pytest.raises(ConfigError, match=words):
        crawl(site.url("/a"), line, sources=SOURCES)
    assert site.hits() == 0
    assert list(stores[1].entries()) == []


def test_one_address_with_two_sets_of_options_is_refused(crawl):
    lines = [{"local_files": {"address": "notes", "include": kind}} for kind in ("*.md", "*.txt")]
    with pytest.raises(ConfigError, match="listed twice with different options"):
        crawl(*lines, sources=SOURCES)


# --- many documents of one link -----------------------------------------------------------------------------


@pytest.fixture
def shelf():
    """A source of many documents whose content the test decides."""

    class Shelf:
        books: list[str | Skipped | SourceError] = []

        def __init__(self):
            self.source = Source(
                name="shelf", kind=Kind.ARTICLE, crawl=self.crawl, owns=lambda link: True, complete=True
            )

        def crawl(self, target, context):
            for book in self.books:
                if isinstance(book, Exception):
                    raise book
                yield (
                    book
                    if isinstance(book, Skipped)
                    else Page(
                        url=f"https://example.com/shelf/{book}",
                        link=f"https://example.com/shelf/{book}",
                        body=book,
                        etag="e",
                    )
                )

    return Shelf()


def test_a_whole_source_loses_what_it_no_longer_has(crawl, stores, shelf):
    shelf.books = [f"book-{number}" for number in range(150)] + [Skipped("binary", 2), Skipped("binary")]
    report = crawl("https://example.com/shelf", sources=(shelf.source,))
    assert (report.documents_inserted, report.links, report.skipped) == (150, 1, {"binary": 3})
    assert entry(stores, "/shelf").documents == 150
    shelf.books = shelf.books[1:150]
    report = crawl("https://example.com/shelf", sources=(shelf.source,))
    assert (report.documents_deleted, report.documents_unchanged, report.read) == (1, 149, 1)
    assert "book-0" not in bodies(stores)


def test_of_two_documents_with_one_link_the_first_counts(crawl, stores, shelf):
    def twice(target, context):
        for body in ("first", "second"):
            yield Page(url="https://example.com/x", link="https://example.com/x", body=body)

    source = Source(name="twice", kind=Kind.ARTICLE, crawl=twice, owns=lambda link: True, complete=True)
    report = crawl("https://example.com/shelf", sources=(source,))
    assert report.skipped == {"same link again": 1}
    assert bodies(stores) == ["first"]
    assert crawl("https://example.com/shelf", sources=(source,)).unchanged == 1


def test_nothing_is_removed_when_a_whole_source_breaks_off(crawl, stores, shelf):
    shelf.books = ["one", "two"]
    crawl("https://example.com/shelf", sources=(shelf.source,))
    shelf.books = ["three", SourceError("https://example.com/shelf", Reason.GIT, "broke off", retry=True)]
    crawl("https://example.com/shelf", sources=(shelf.source,), min_success_rate=0)
    assert bodies(stores) == ["one", "three", "two"]
    assert entry(stores, "/shelf").etag is None  # the stored documents are no longer those it stands for


def test_nothing_is_removed_when_a_whole_source_is_suddenly_empty(crawl, stores, shelf):
    shelf.books = ["one"]
    crawl("https://example.com/shelf", sources=(shelf.source,))
    shelf.books = [Skipped("binary", 7)]
    report = crawl("https://example.com/shelf", sources=(shelf.source,), min_success_rate=0)
    assert report.failures[0].detail == "nothing to read here but 7 binary"
    assert bodies(stores) == ["one"]


def test_what_cannot_be_stored_is_made_storable(crawl, stores, shelf):
    def crawl_odd(target, context):
        yield Page(
            url=target.url,
            body="a\ud800b\ud83d\ude42",
            title="\udfff",
            meta={"\ud800": ["\udc00", {"k": "\ud801"}]},
            published_at=datetime(2024, 5, 6, 7, 8),
        )

    source = Source(name="odd", kind=Kind.ARTICLE, crawl=crawl_odd, owns=lambda link: True)
    crawl("https://example.com/odd", sources=(source,))
    [document] = stores[0].documents()
    assert (document.body, document.title) == ("a�b🙂", "�")
    assert document.meta == {"�": ["�", {"k": "�"}]}
    assert document.published_at == datetime(2024, 5, 6, 7, 8, tzinfo=UTC)


# --- stopping and going on ----------------------------------------------------------------------------------


def test_a_stopped_run_keeps_what_it_read_and_the_next_goes_on(crawl, stores, site):
    links = [site.url(f"/{number}") for number in range(40)]
    for number in range(40):
        site.page(f"/{number}", str(number))
    seen = []
    stopped = crawl(*links, concurrency=2, stop=lambda: len(seen) >= 5, on_progress=seen.append)
    assert "run again" in stopped.red
    assert 5 <= stopped.read < 40
    assert len(bodies(stores)) == stopped.read == site.hits()
    resumed = crawl(*links)
    assert (resumed.resumed, resumed.read, resumed.links) == (stopped.read, 40 - stopped.read, 40)
    assert site.hits() == 40
    fresh = crawl(*links)
    assert (fresh.resumed, fresh.unchanged) == (0, 40)


def test_a_run_broken_off_days_ago_starts_afresh(crawl, site):
    site.page("/a", "x")
    site.page("/b", "x")
    seen = []
    stopped = crawl(site.url("/a"), site.url("/b"), concurrency=1, stop=lambda: bool(seen), on_progress=seen.append)
    assert stopped.red
    later = lambda: datetime.now(UTC) + timedelta(days=2)  # noqa: E731
    assert crawl(site.url("/a"), site.url("/b"), clock=later).resumed == 0


def in_ten_years() -> datetime:
    return datetime.now(UTC) + timedelta(days=3652)


def interrupt_at(links: int):
    def interrupt(report):
        if report.links == links:
            raise KeyboardInterrupt

    return interrupt


def test_what_was_read_in_the_future_was_not_read(crawl, stores, site):
    """The clock was wrong, and was set right since."""
    links = [site.url("/a"), site.url("/b")]
    for name in ("/a", "/b"):
        site.page(name, "x")
    ledger = stores[1]
    with pytest.raises(KeyboardInterrupt):
        crawl(*links, on_progress=interrupt_at(2))
    ledger.record([one.model_copy(update={"last_success": in_ten_years()}) for one in list(ledger.entries())])
    again = crawl(*links)
    assert (again.resumed, again.links, again.failed) == (0, 2, 0)
    assert all(one.last_success <= datetime.now(UTC) for one in ledger.entries())


def test_a_link_that_will_die_in_the_future_is_asked_today(crawl, site):
    site.page("/a", "x")
    crawl(site.url("/a"), site.url("/gone"), min_success_rate=0, clock=in_ten_years)
    before = site.hits()
    crawl(site.url("/a"), site.url("/gone"), min_success_rate=0)
    assert site.hits() == before + 2


def test_a_run_that_will_have_begun_in_the_future_is_not_gone_on_with(crawl, stores, site, tmp_path):
    site.page("/a", "x")
    site.page("/b", "x")
    with pytest.raises(KeyboardInterrupt):
        crawl(site.url("/a"), site.url("/b"), on_progress=interrupt_at(2))
    with sqlite3.connect(tmp_path / "warehouse.db") as connection:
        connection.execute("UPDATE runs SET began_at=?", (in_ten_years().isoformat(),))
    connection.close()
    with pytest.raises(KeyboardInterrupt):
        crawl(site.url("/a"), site.url("/b"), on_progress=interrupt_at(2))
    assert crawl(site.url("/a"), site.url("/b")).resumed == 2  # of the run that began today


def test_another_config_starts_afresh(crawl, site):
    site.page("/a", "x")
    site.page("/b", "x")
    seen = []
    crawl(site.url("/a"), site.url("/b"), concurrency=1, stop=lambda: bool(seen), on_progress=seen.append)
    assert crawl(site.url("/a")).resumed == 0


def test_ctrl_c_leaves_nothing_half_done_and_the_next_run_goes_on(crawl, stores, site):
    links = [site.url(f"/{number}") for number in range(20)]
    for number in range(20):
        site.page(f"/{number}", str(number))
    seen = []

    def interrupt(one):
        seen.append(one)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crawl(*links, concurrency=2, on_progress=interrupt)
    resumed = crawl(*links)
    assert resumed.resumed >= 3
    assert resumed.links == 20
    assert len(bodies(stores)) == 20
    assert threading.active_count() < 40


def test_a_bug_in_a_source_is_the_failure_of_its_link_alone(crawl, stores, site):
    def read_or_break(target, context):
        if target.url.endswith("/odd"):
            raise ZeroDivisionError("division\nby zero")
        yield from read_page(target, context)

    source = Source(name="plain", kind=Kind.ARTICLE, crawl=read_or_break, owns=lambda link: True)
    site.page("/a", "x")
    for attempts in (1, 2):  # asked by every run: the code may have been mended
        report = crawl(site.url("/odd"), site.url("/a"), sources=(source,))
        [failure] = report.failures
        assert (report.failed, failure.reason, failure.retry) == (1, Reason.INTERNAL_ERROR, False)
        assert failure.detail.startswith("ZeroDivisionError at ")
        assert failure.detail.endswith("division by zero")
        assert "read_link" in failure.detail
        assert entry(stores, "/odd").attempts == attempts
    assert bodies(stores) == ["x"]


def test_a_bug_in_a_list_of_links_is_the_failure_of_its_line_alone(crawl, stores, site):
    source = Source(name="broken", kind=Kind.ARTICLE, crawl=read_page, owns=lambda link: True,
                    discover=lambda address, context: iter([str(1 // 0)]))  # fmt: skip
    site.page("/a", "x")
    report = crawl({"broken": "x"}, site.url("/a"), sources=(source,))
    assert [failure.reason for failure in report.failures] == [Reason.INTERNAL_ERROR]
    assert bodies(stores) == ["x"]


def test_when_every_link_meets_a_bug_the_run_is_red(crawl):
    def broken(target, context):
        raise ZeroDivisionError
        yield

    source = Source(name="broken", kind=Kind.ARTICLE, crawl=broken, owns=lambda link: True)
    with pytest.raises(TooFewRead, match="100 internal_error"):
        crawl(*(f"https://example.com/{number}" for number in range(100)), sources=(source,))


def test_a_store_that_goes_down_ends_the_run_at_once(crawl, stores, site, monkeypatch):
    def refuse(documents):
        raise StoreUnavailable("the disk is full; free some space and run again")

    for number in range(50):
        site.page(f"/{number}", "x")
    links = [site.url(f"/{number}") for number in range(50)]
    with monkeypatch.context() as full:
        full.setattr(stores[0], "put", refuse)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            crawl(*links, concurrency=2)
    assert list(stores[1].entries()) == []  # nothing is called read that is not stored
    assert site.hits() < 50
    assert crawl(*links, concurrency=2).read == 50


def test_a_slow_host_does_not_hold_up_the_others(crawl, site):
    """All of the slow host's links come first, and none is answered before the fast host is done."""
    fast_done = threading.Event()
    waited_in_time = []

    def slow(request):
        waited_in_time.append(fast_done.wait(60))
        return Answer(200, "slow", {"Content-Type": "text/html"})

    for number in range(6):
        site.route(f"/{number}", slow, host="127.0.0.1")
        site.page(f"/{number}", "fast", host="localhost")
    links = [site.url(f"/{number}") for number in range(6)] + [site.url(f"/{n}", "localhost") for n in range(6)]

    def stop_waiting(report):
        if report.read == 6:
            fast_done.set()

    report = crawl(*links, concurrency=7, on_progress=stop_waiting)
    assert report.read == 12
    assert waited_in_time == [True] * 6, "a page of the fast host waited for the slow one"
