"""Medium: people, publications and stories, on medium.com, its subdomains or a domain of their own.

A story is read by a ladder: the feed of its author (no wall stands in front of it, but it only holds the latest ten
stories), the page over HTTP, the page in a browser. When all fail, the reason of each rung is in the detail.
"""

import re
from collections.abc import Iterator
from html import escape
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import NotModified, OverBudget, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import host_of, is_host
from llm_engineering.domain.ports import FetchContext, Fetched, Fetcher
from llm_engineering.features.cleaning.clean import clean_html
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.page import parse_date
from llm_engineering.features.reading.feeds import ACCEPT, feed_entries, unpacked
from llm_engineering.features.reading.pages import page_and_wall, read_in_browser
from llm_engineering.features.source import Page, Source, Target

HOST = "medium.com"
STUB_CHARACTERS = 1_000  # characters of HTML: a feed that holds only the teaser of a member-only story
_POST_ID = re.compile(r"(?:^|[-/])([0-9a-f]{8,12})$")
_MEMBERS_ONLY = re.compile(r"continue reading on|class=\"medium-feed-snippet\"", re.IGNORECASE)
_ID_LENGTHS = (10, 11, 12)  # hex digits; Medium drops leading zeros
_BOILERPLATE = (
    "//*[@data-testid='headerClapButton' or @data-testid='audioPlayButton' or @data-testid='headerSocialShareButton']",
    "//*[@data-testid='authorPhoto' or @data-testid='storyReadTime' or @data-testid='storyPublishDate']",
    "//*[contains(@class, 'speechify-ignore') or contains(@class, 'pw-responses')]",
    "//img[contains(@src, 'medium.com/_/stat')]",
)


class _Story(NamedTuple):
    url: str
    title: str
    html: str
    published: str


# The feed of an author is asked once per run, however many of their stories are read; a run has its own fetcher.
_feeds: "WeakKeyDictionary[Fetcher, dict[str, dict[str, _Story] | SourceError]]" = WeakKeyDictionary()
_feeds_lock = Lock()


def post_id(link: str) -> str:
    """The hex digits a story's link ends with, "" for any other page."""
    found = _POST_ID.search(urlsplit(link).path.rstrip("/"))
    return found.group(1) if found and len(found.group(1)) in _ID_LENGTHS else ""


def canonical(link: str) -> str:
    """`ann.medium.com/slug-ID`, `medium.com/@ann/slug-ID` and `medium.com/p/ID` are one story."""
    story = post_id(link)
    return f"https://{HOST}/p/{story}" if story and is_host(link, HOST) else link


def discover(address: str, context: FetchContext) -> Iterator[str]:
    """The latest stories of `@handle`, a publication's name, or a domain of their own; a story's link stays itself."""
    if post_id(address) and "://" in address:
        yield address.strip()
        return
    feed = feed_of(address)
    stories = _read_feed(feed, context)
    if not stories:
        raise SourceError(feed, Reason.EMPTY, "no stories there; is the handle right?", retry=True)
    yield from (story.url for story in stories.values())


def feed_of(address: str) -> str:
    """The address of the RSS feed of a handle, publication, profile page or domain."""
    name = address.strip().rstrip("/")
    if "://" not in name:
        if name.startswith("@") or "." not in name.partition("/")[0].partition(":")[0]:
            return f"https://{HOST}/feed/{name}"
        name = f"https://{name}"
    parts = urlsplit(name)
    site, host = f"{parts.scheme}://{parts.netloc}", (parts.hostname or "").removeprefix("www.")
    first = parts.path.strip("/").partition("/")[0]
    if first == "feed":
        return name
    if host == HOST:
        return f"{site}/feed/{first}"
    return f"{site}/feed"


def crawl(target: Target, context: FetchContext) -> Iterator[Page]:
    """One story. Raises SourceError with the reason of each rung; the last rung's decides."""
    failures: list[str] = []
    if page := _from_feed(target, context, failures):
        yield page
        return
    try:
        page, wall = page_and_wall(
            context.fetch.get(target.url, etag=target.etag, last_modified=target.last_modified), target, context.sandbox
        )
        if wall is None:
            yield page
            return
        reason, detail, retry = wall.reason, wall.detail, wall.retry
    except SourceError as error:
        reason, detail, retry = error.reason, error.detail or str(error.reason), error.retry
    failures.append(f"page: {detail}")
    if reason in (Reason.PAYWALL, Reason.NOT_FOUND, Reason.ROBOTS, Reason.BLOCKED_ADDRESS):  # a browser sees no more
        raise SourceError(target.link, reason, "; ".join(failures), retry=retry)
    yield read_in_browser(target, context, reason, "; ".join(failures))


def _from_feed(target: Target, context: FetchContext, failures: list[str]) -> Page | None:
    story_id = post_id(target.url)
    feed = _feed_for(target.url)
    if not story_id or not feed:
        failures.append("feed: the link names no author")
        return None
    try:
        story = _read_feed(feed, context).get(story_id)
    except SourceError as error:
        failures.append(f"feed: {error.detail or error.reason}")
        return None
    if story is None:
        failures.append("feed: it no longer lists this story")
    elif _MEMBERS_ONLY.search(story.html) or len(story.html) < STUB_CHARACTERS:
        failures.append("feed: it holds only the beginning")
    else:
        return Page(
            url=target.url,
            body=f"<html><head><title>{escape(story.title)}</title></head><body><article>"
            f"<h1>{escape(story.title)}</h1>\n{story.html}</article></body></html>",
            title=story.title,
            published_at=parse_date(story.published),
            meta={"rung": "feed"},
        )
    return None


def _feed_for(url: str) -> str:
    """Of the author or publication a story's link names; "" for medium.com/p/ID, which names none."""
    host, first = host_of(url).removeprefix("www."), urlsplit(url).path.strip("/").partition("/")[0]
    if host == HOST and (first == "p" or not first):
        return ""
    return feed_of(url)


def _read_feed(url: str, context: FetchContext) -> dict[str, _Story]:
    """Post id -> story. A feed that failed fails again without being asked again."""
    with _feeds_lock:
        known = _feeds.setdefault(context.fetch, {})
        if url not in known:
            known[url] = _fetch_feed(url, context)
        answer = known[url]
    if isinstance(answer, SourceError):
        raise SourceError(answer.link, answer.reason, answer.detail, retry=answer.retry)
    return answer


def _fetch_feed(url: str, context: FetchContext) -> dict[str, _Story] | SourceError:
    try:
        answer = context.fetch.get(url, accept=ACCEPT)
        return context.sandbox.submit(_stories, answer, size=len(answer.body)).result()
    except SourceError as error:
        return error
    except OverBudget as error:
        return SourceError(url, Reason.OVER_BUDGET, str(error), retry=False)
    except NotModified:  # not asked conditionally, so a broken server
        return SourceError(url, Reason.BAD_FEED, "answered 304 to an unconditional request", retry=True)


def _stories(answer: Fetched) -> dict[str, _Story]:
    entries = feed_entries(unpacked(answer), answer.url)
    stories = (_story(entry) for entry in entries if entry.get("link"))
    return {post_id(story.url) or story.url: story for story in stories}


def _story(entry: dict[str, Any]) -> _Story:
    contents = [part.get("value", "") for part in entry.get("content", [])]
    html = max([*contents, entry.get("summary", "")], key=len)
    url = entry["link"].partition("?")[0]  # the query says which feed a reader came from
    return _Story(url, " ".join(entry.get("title", "").split()), html, entry.get("published", ""))


def clean(body: str, media_type: str) -> Cleaned:
    return clean_html(body, media_type, without=_BOILERPLATE)


SOURCE = Source(
    name="medium",
    kind=Kind.ARTICLE,
    crawl=crawl,
    owns=lambda link: is_host(link, HOST),
    clean=clean,
    discover=discover,
    canonical=canonical,
    latest_only=True,  # a feed holds ten stories, and an older one would meet the wall
)
