"""Substack newsletters, on substack.com or a domain of their own (`- substack: newsletter.example.com`)."""

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import is_host
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.cleaning.clean import clean_html
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.reading.feeds import links_at
from llm_engineering.features.reading.pages import read_page
from llm_engineering.features.source import Page, Source, Target

PAGE = 50  # posts per answer of the archive, its maximum
MAX_PAGES = 200
_COMMENTS = re.compile(r"^(https?://[^/]+/p/[^/?#]+)/comments?(?:/[^?#]*)?(?=[?#]|$)")
_BOILERPLATE = (
    "//*[contains(concat(' ', @class, ' '), ' subscription-widget-wrap ')]",
    "//*[contains(concat(' ', @class, ' '), ' subscription-widget-wrap-editor ')]",
    "//*[contains(concat(' ', @class, ' '), ' subscribe-widget ')]",
    "//*[contains(concat(' ', @class, ' '), ' button-wrapper ')]",
    "//*[contains(concat(' ', @class, ' '), ' captioned-button-wrap ')]",
    "//*[contains(concat(' ', @class, ' '), ' post-ufi ') or contains(@class, 'post-footer')]",
    "//*[contains(concat(' ', @class, ' '), ' image-link-expand ') or contains(@class, 'header-anchor-parent')]",
)


def crawl(target: Target, context: FetchContext) -> Iterator[Page]:
    """The post's page. Posts for paying subscribers raise SourceError(PAYWALL): only their beginning is public."""
    yield read_page(target, context)


def clean(body: str, media_type: str) -> Cleaned:
    return clean_html(body, media_type, without=_BOILERPLATE)


def canonical(link: str) -> str:
    """A post's comment page is the post."""
    return _COMMENTS.sub(r"\1", link)


def discover(address: str, context: FetchContext) -> Iterator[str]:
    """All posts of `ann`, `@ann`, `ann.substack.com` or a newsletter's own domain; a post's link stays what it is.

    Asks the archive, then (when there is none) the feed, then the sitemap. Raises SourceError with all three reasons.
    """
    site = site_of(address)
    if "/p/" in urlsplit(site).path:
        yield site
        return
    errors: list[SourceError] = []
    for listing in (_archive, _feed, _sitemap):
        found = False
        try:
            for link in listing(site, context):
                found = True
                yield link
        except SourceError as error:
            if found:
                raise
            errors.append(error)
        if found:
            return
    why = "; ".join(f"{error.link}: {error.detail or error.reason}" for error in errors)
    first = errors[0] if errors else None
    reason, retry = (first.reason, any(e.retry for e in errors)) if first else (Reason.EMPTY, True)
    raise SourceError(site, reason, why or "no posts there; is the name right?", retry=retry)


def site_of(address: str) -> str:
    """The address of the newsletter, without a slash at the end."""
    name = address.strip().rstrip("/")
    if "://" in name:
        return name
    name = name.removeprefix("@")
    if "/" not in name and "." not in name and ":" not in name:
        name = f"{name}.substack.com"
    return f"https://{name}"


def _archive(site: str, context: FetchContext) -> Iterator[str]:
    """The public archive, newest first, until a page brings nothing new."""
    seen: set[str] = set()
    for number in range(MAX_PAGES):
        url = f"{site}/api/v1/archive?sort=new&search=&offset={number * PAGE}&limit={PAGE}"
        new = [link for link in _archive_page(url, context) if link not in seen]
        if not new:
            return
        yield from new
        seen.update(new)


def _archive_page(url: str, context: FetchContext) -> list[str]:
    answer = context.fetch.get(url, accept=("application/json", "text/"))
    try:
        posts = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        raise SourceError(url, Reason.BAD_FEED, f"the archive is no JSON: {error}", retry=False) from None
    if not isinstance(posts, list):
        raise SourceError(url, Reason.BAD_FEED, "the archive is no list of posts", retry=False)
    links = [post.get("canonical_url") for post in posts if isinstance(post, dict)]
    return [link for link in links if isinstance(link, str) and link.startswith("http")]


def _feed(site: str, context: FetchContext) -> Iterator[str]:
    yield from links_at(f"{site}/feed", context.fetch, context.sandbox)


def _sitemap(site: str, context: FetchContext) -> Iterator[str]:
    yield from (link for link in links_at(f"{site}/sitemap.xml", context.fetch, context.sandbox) if "/p/" in link)


SOURCE = Source(
    name="substack",
    kind=Kind.ARTICLE,
    crawl=crawl,
    owns=lambda link: is_host(link, "substack.com"),
    clean=clean,
    discover=discover,
    canonical=canonical,
)
