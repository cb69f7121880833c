"""One web page, read and judged. What the sources that read pages share."""

import base64
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import FetchContext, Fetched, Sandbox
from llm_engineering.features.reading.parsed_page import ParsedPage
from llm_engineering.features.reading.walls import Wall, wall_of
from llm_engineering.features.source import Page, Target

if TYPE_CHECKING:
    from llm_engineering.features.cleaning.page import PageFacts

HTML = ("text/html", "application/xhtml+xml")
_PDF = b"%PDF-"
_CHARACTERS_PER_NUL = 1_000  # one NUL in so many characters is no text any more


def read_page(target: Target, context: FetchContext) -> Page:
    """The page over HTTP; through the browser when it is empty until its scripts run.

    Raises SourceError for anything that is not the page itself (a wall is never returned), and NotModified.
    """
    fetched = context.fetch.get(target.url, etag=target.etag, last_modified=target.last_modified)
    page, wall = page_and_wall(fetched, target, context.sandbox)
    if wall is None:
        return page
    if wall.reason is Reason.NEEDS_JAVASCRIPT:
        return read_in_browser(target, context, wall.reason, wall.detail)
    raise wall_error(target, wall)


def read_in_browser(target: Target, context: FetchContext, reason: Reason, why: str) -> Page:
    """The last rung. `reason` and `why` say what was wrong with the rung before; they stay the reason for failing."""
    try:
        fetched = context.browser().get(target.url)
    except SourceError as error:
        detail = f"{why}; browser: {error.detail or error.reason}"
        raise SourceError(target.link, reason, detail, retry=error.retry) from error
    page, wall = page_and_wall(fetched, target, context.sandbox)
    if wall is not None:
        raise SourceError(target.link, wall.reason, f"{wall.detail} (in the browser too)", retry=wall.retry)
    # validators of the bare shell would say "not modified" for ever
    return page._replace(etag=None, last_modified=None, meta={**page.meta, "rung": "browser"})


def wall_error(target: Target, wall: Wall) -> SourceError:
    return SourceError(target.link, wall.reason, wall.detail, retry=wall.retry)


def page_and_wall(fetched: Fetched, target: Target, sandbox: Sandbox) -> tuple[Page, Wall | None]:
    """The answer as a page, and the wall it is, if it is one. Raises SourceError for binary data and empty files, and
    OverBudget."""
    if fetched.body.startswith(_PDF) or fetched.media_type == "application/pdf":
        return _binary(fetched, "application/pdf"), None
    if fetched.text.count("\0") * _CHARACTERS_PER_NUL > len(fetched.text):
        raise SourceError(target.link, Reason.WRONG_TYPE, f"binary data sent as {fetched.media_type}", retry=False)
    page = Page(
        url=fetched.url,
        body=fetched.text,
        media_type=fetched.media_type,
        etag=fetched.etag,
        last_modified=fetched.last_modified,
    )
    if fetched.media_type not in HTML:
        if not fetched.text.strip():
            raise SourceError(target.link, Reason.EMPTY, "the file is empty", retry=True)
        return page, None
    facts, wall = sandbox.submit(_facts_and_wall, fetched.text, fetched.url, size=len(fetched.text)).result()
    meta = {"canonical": facts.canonical} if facts.canonical.startswith("http") else {}
    return page._replace(title=facts.title, published_at=facts.published_at, meta=meta), wall


def _facts_and_wall(html: str, url: str) -> "tuple[PageFacts, Wall | None]":
    parsed = ParsedPage(html)
    return parsed.facts, wall_of(parsed, url)


def _binary(fetched: Fetched, media_type: str) -> Page:
    return Page(
        url=fetched.url,
        body=base64.b64encode(fetched.body).decode("ascii"),
        encoding="base64",
        media_type=media_type,
        etag=fetched.etag,
        last_modified=fetched.last_modified,
    )
