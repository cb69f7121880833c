"""What a source is: a frozen record of plain functions. See docs/add-a-source.md."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.cleaning.cleaned import Cleaned


class Target(NamedTuple):
    """One link to read. The validators are those of the last full answer, None when there was none."""

    link: str  # canonical
    url: str  # as it was given
    etag: str | None = None
    last_modified: str | None = None
    options: Mapping[str, JsonValue] = {}


class Page(NamedTuple):
    """One document as it was found. `link` None: the target's own. `encoding` "base64" for what is not text."""

    url: str
    body: str
    link: str | None = None
    title: str = ""
    published_at: datetime | None = None
    media_type: str = "text/html"
    encoding: str = "text"
    etag: str | None = None
    last_modified: str | None = None
    kind: Kind | None = None  # None: the source's own
    meta: Mapping[str, JsonValue] = {}


class Skipped(NamedTuple):
    """Files passed over on purpose, counted by why ("binary", "vendored", "too large")."""

    why: str
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """How to recognise, read and clean one kind of place. Everything else is the core's.

    `crawl` yields every document of its target and raises SourceError when the target cannot be read whole, or
    NotModified when the validators still hold. `discover` turns a handle, feed, sitemap or archive page into
    links. `canonical` folds a service's own spellings of one link into one; it gets a generally canonical link.
    `link_of` is for what has no web address (a folder, a loader): a config line's address and options -> its link.
    """

    name: str
    kind: Kind
    crawl: Callable[[Target, FetchContext], Iterator[Page | Skipped]]
    owns: Callable[[str], bool]  # of a canonical link
    clean: Callable[[str, str], Cleaned] = clean_body  # (raw body, media type)
    discover: Callable[[str, FetchContext], Iterator[str]] | None = None
    canonical: Callable[[str], str] = field(default=lambda link: link)
    link_of: Callable[[str, Mapping[str, JsonValue]], str] | None = None
    options: tuple[str, ...] = ()  # what a config line may say besides its address
    latest_only: bool = False  # its lists hold the latest only: what they no longer name is not asked again
    complete: bool = False  # crawl yields all there is: a document it no longer yields was removed
