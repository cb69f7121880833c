"""Feeds, sitemaps and archive pages into links."""

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from llm_engineering.domain.errors import OverBudget, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched, Fetcher, Sandbox

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from lxml.html import HtmlElement

A = TypeVar("A", str, bytes)
T = TypeVar("T")

MAX_LINKS = 5_000  # from one address
MAX_SITEMAPS = 100  # read for one address
MAX_DEPTH = 3  # of sitemap indexes
MAX_UNPACKED = 50_000_000  # bytes of one unpacked sitemap, the protocol's own limit (sitemaps.org)
MAX_XML = 50_000_000  # bytes of a feed or sitemap
MAX_NESTING = 100  # of elements; XHTML in a feed is the deepest there is
LONGEST_LINK = 2_000  # characters, and of an attribute
LONGEST_WORD = 200  # characters of a name, a date and whatever else is neither text nor link
MAX_ATTRIBUTES = 100  # of one element
ACCEPT = ("text/", "application/xml", "application/rss+xml", "application/atom+xml", "application/rdf+xml")
ACCEPT = (*ACCEPT, "application/xhtml+xml", "application/gzip", "application/x-gzip", "application/octet-stream")

_FEED_ROOTS = {"rss", "feed", "RDF"}
_PROLOG = re.compile(rb"\s+|\xef\xbb\xbf|<\?|<!--|<!DOCTYPE", re.IGNORECASE)
_PROLOG_ENDS = {b"<?": b"?>", b"<!--": b"-->"}
_ROOT = re.compile(rb"<(?:\w+:)?(\w+)")
_LONGEST = dict.fromkeys(("link", "guid", "id", "origLink"), LONGEST_LINK) | dict.fromkeys(
    ("content", "encoded", "summary", "description", "title"),
    0,  # a text may be of any length
)
_ARTICLE_PATH = re.compile(
    r"/(?:\d{4}/\d{1,2}/|(?:p|post|posts|blog|article|articles|news|story|stories|writing)/.)", re.I
)
_NOT_ARTICLES = re.compile(
    r"/(?:tag|tags|category|categories|author|authors|page|login|signin|signup|register|about|contact|privacy|terms|imprint"
    r"|impressum|datenschutz|search|feed|archive|archives|subscribe|account|cart|legal|help|faq)(?:/|$)"
    r"|\.(?:jpe?g|png|gif|svg|webp|css|js|zip|gz|mp[34]|xml|rss|json)$",
    re.I,
)


def links_at(address: str, fetch: Fetcher, sandbox: Sandbox) -> Iterator[str]:
    """The links behind an address, whatever stands there: an RSS or Atom feed, a sitemap (index), or a page.

    A page that names its feed gives the feed's links, any other page the articles it links to on its own host. At
    most MAX_LINKS. Raises SourceError(BAD_FEED) with the place of the fault when the feed or sitemap is broken, and
    SourceError(EMPTY) when no link is found; and OverBudget.
    """
    fetched = fetch.get(address, accept=ACCEPT)
    count = 0
    for link in _links(fetched, fetch, sandbox):
        yield link
        count += 1
        if count >= MAX_LINKS:
            return
    if not count:
        raise SourceError(address, Reason.EMPTY, "no links found: neither a feed nor a list of articles", retry=False)


def _links(fetched: Fetched, fetch: Fetcher, sandbox: Sandbox) -> Iterator[str]:
    data = unpacked(fetched)
    root = _xml_root_name(data)
    if root in _FEED_ROOTS:
        yield from _parsed(sandbox, feed_links, data, fetched.url)
    elif root in ("urlset", "sitemapindex"):
        yield from sitemap_links(data, fetched.url, fetch, sandbox)
    elif _is_xml(fetched):
        _parsed(sandbox, _sitemap_places, data, fetched.url)  # says where it is broken
        raise _feed_error(fetched.url, f"XML, but neither a feed nor a sitemap: its root is <{root or '?'}>")
    else:
        yield from page_links(fetched, fetch, sandbox)


def _parsed(sandbox: Sandbox, parse: Callable[[A, str], T], content: A, url: str) -> T:
    return sandbox.submit(parse, content, url, size=len(content)).result()


def unpacked(fetched: Fetched) -> bytes:
    """A sitemap may come as a .gz file; bombs are refused."""
    data = fetched.body
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        unpacker = zlib.decompressobj(wbits=31)
        plain = unpacker.decompress(data, MAX_UNPACKED)
    except zlib.error as error:
        raise _feed_error(fetched.url, f"broken gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise SourceError(fetched.url, Reason.TOO_LARGE, f"unpacks to over {MAX_UNPACKED:,} bytes", retry=False)
    return plain


def feed_entries(data: bytes, url: str) -> list[dict[str, Any]]:
    """The entries of an RSS or Atom feed as feedparser reads them. Raises SourceError(BAD_FEED)."""
    import feedparser

    data = _prepared(_checked_xml(data, url), data, url)
    headers = {"content-location": url}
    try:
        feed = feedparser.parse(data, response_headers=headers, sanitize_html=False, resolve_relative_uris=False)
    except Exception as error:  # only feedparser was at work, which lets out what its parts raise over a date or a link
        raise _feed_error(url, f"feedparser gives up: {type(error).__name__}: {error}") from error
    return feed.entries


def feed_links(data: bytes, url: str) -> list[str]:
    """Of its entries; one whose link is none is passed over."""
    found = (_joined(url, str(entry["link"])) for entry in feed_entries(data, url) if entry.get("link"))
    return _unique(link for link in found if link)


def sitemap_links(data: bytes, url: str, fetch: Fetcher, sandbox: Sandbox) -> Iterator[str]:
    """Of a sitemap, or of all sitemaps an index names, level by level. Only the sitemap's own site is followed.

    What fails of an index is named at the end, when the links of the others were given: raises SourceError."""
    waiting, read, seen = deque([(data, url, 1)]), 1, {url}
    failed: list[SourceError] = []
    while waiting:
        data, at, depth = waiting.popleft()
        try:
            is_list, places = _parsed(sandbox, _sitemap_places, data, at)
        except SourceError as error:
            failed.append(error)
            continue
        except OverBudget as error:
            failed.append(SourceError(at, Reason.OVER_BUDGET, str(error), retry=False))
            continue
        if is_list:
            yield from _unique(place for place in places if place.startswith("http"))
            continue
        for place in places:
            if depth < MAX_DEPTH and read < MAX_SITEMAPS and place not in seen and _same_site(place, url):
                seen.add(place)
                read += 1
                try:
                    fetched = fetch.get(place, accept=ACCEPT)
                    waiting.append((unpacked(fetched), place, depth + 1))
                except SourceError as error:
                    failed.append(error)
    if failed:
        raise _some_failed(url, failed)


def _sitemap_places(data: bytes, url: str) -> tuple[bool, list[str]]:
    """(whether these are pages and not sitemaps, their addresses)."""
    root = _checked_xml(data, url)
    places = [
        (e.text or "").strip()
        for e in root.iter()
        if isinstance(e.tag, str) and _local_name(e) == "loc" and _names_page(e)
    ]
    return _local_name(root) == "urlset", [place for place in places if len(place) <= LONGEST_LINK]


def _some_failed(url: str, failed: list[SourceError]) -> SourceError:
    first = failed[0]
    if first.link == url:
        return first
    detail = f"{len(failed)} of its sitemaps cannot be read, such as {first.link}: {first.detail or first.reason}"
    return SourceError(url, first.reason, detail, retry=any(error.retry for error in failed))


def page_links(fetched: Fetched, fetch: Fetcher, sandbox: Sandbox) -> Iterator[str]:
    """Of the feed the page names, or else of the page itself."""
    feed, listed = _parsed(sandbox, _feed_and_articles, fetched.text, fetched.url)
    if feed:
        answer = fetch.get(feed, accept=ACCEPT)
        yield from _unique([*_parsed(sandbox, feed_links, unpacked(answer), answer.url), *listed])
    else:
        yield from listed


def _feed_and_articles(html: str, url: str) -> tuple[str | None, list[str]]:
    from llm_engineering.features.cleaning.page import parse

    root = parse(html)
    if root is None:
        return None, []
    feed = next(
        (
            link.get("href")
            for link in root.iter("link")
            if "alternate" in (link.get("rel") or "").lower().split()
            and (link.get("type") or "").lower() in ("application/rss+xml", "application/atom+xml")
            and link.get("href")
            and "comment" not in (link.get("title") or "").lower()
        ),
        None,
    )
    return feed and _joined(url, feed), _unique(_article_links(root, url))


def _article_links(root: "HtmlElement", url: str) -> Iterator[str]:
    """Links on the page's own host that look like one article: a dated or blog-like path, or a slug of some words."""
    host, here = urlsplit(url).hostname, urlsplit(url).path.rstrip("/")
    base = _joined(url, next((b.get("href") for b in root.iter("base") if b.get("href")), "")) or url
    for a in root.iter("a"):
        link = _joined(base, (a.get("href") or "").strip())
        if not link:
            continue
        parts = urlsplit(link)
        same = parts.scheme in ("http", "https") and parts.hostname == host
        path = parts.path.rstrip("/")
        if not same or path in ("", here) or _NOT_ARTICLES.search(path):
            continue
        if any(above.tag in ("nav", "footer") for above in a.iterancestors("nav", "footer")):
            continue
        slug = path.rsplit("/", 1)[-1]
        if _ARTICLE_PATH.search(path) or slug.count("-") >= 2 or slug.endswith((".html", ".htm", ".md", ".pdf")):
            yield link.partition("#")[0]


def _joined(base: str, link: str) -> str:
    """The link as seen from `base`; "" for what is none, such as http://[ ."""
    try:
        joined = urljoin(base, link) if len(link) <= LONGEST_LINK else ""
        urlsplit(joined).port  # noqa: B018 (raises for a port that is no number)
    except ValueError:
        return ""
    return joined


def _checked_xml(data: bytes, url: str) -> "Element":
    """The parsed root. Entity declarations and external references are refused, whatever they would expand to."""
    if len(data) > MAX_XML:
        raise SourceError(url, Reason.TOO_LARGE, f"a feed or sitemap of over {MAX_XML:,} bytes", retry=False)
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(data.lstrip(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except ParseError as error:
        line, column = error.position
        raise _feed_error(
            url, f"broken XML at line {line}, column {column + 1}: {str(error).partition(':')[0]}"
        ) from None
    except DefusedXmlException as error:
        raise _feed_error(url, f"refused: it declares XML entities ({type(error).__name__})") from None
    except (ValueError, LookupError) as error:  # an unknown encoding
        raise _feed_error(url, f"unreadable XML: {error}") from None


def _prepared(root: "Element", data: bytes, url: str) -> bytes:
    """The feed without what takes its reader the square of its size: long words where no text belongs. A feed of a
    shape that none has is refused."""
    from xml.etree.ElementTree import tostring

    level, changed = [root], False
    for _ in range(MAX_NESTING):
        for element in level:
            if len(element.attrib) > MAX_ATTRIBUTES:
                raise _feed_error(url, f"refused: <{_local_name(element)}> has {len(element.attrib):,} attributes")
            longest = _LONGEST.get(_local_name(element), LONGEST_WORD)
            if longest and len(element.text or "") > longest:
                element.text, changed = "", True
            for name in [name for name, value in element.attrib.items() if len(name) + len(value) > LONGEST_LINK]:
                del element.attrib[name]
                changed = True
        level = [child for element in level for child in element if isinstance(child.tag, str)]
        if not level:
            return tostring(root) if changed else data
    raise _feed_error(url, f"refused: elements nested over {MAX_NESTING} deep")


def _feed_error(url: str, detail: str) -> SourceError:
    return SourceError(url, Reason.BAD_FEED, detail, retry=False)


def _xml_root_name(data: bytes) -> str:
    """Of the first element, if this looks like XML at all."""
    at, data = 0, data[:20_000]
    while found := _PROLOG.match(data, at):
        end = _PROLOG_ENDS.get(found.group(), b"")
        if found.group()[:9].upper() == b"<!DOCTYPE":
            bracket, sign = data.find(b"[", at), data.find(b">", at)
            end = b"]" if 0 <= bracket < sign else b">"
        at = found.end()
        if end:
            place = data.find(end, at)
            if place < 0:
                return ""
            at = place + len(end)
            if end == b"]":
                at = data.find(b">", at) + 1 or len(data)
    root = _ROOT.match(data, at)
    return root.group(1).decode("ascii", "replace") if root else ""


def _is_xml(fetched: Fetched) -> bool:
    return "xml" in fetched.media_type and fetched.media_type != "application/xhtml+xml"


def _local_name(element: "Element") -> str:
    return element.tag.rpartition("}")[2]


def _names_page(element: "Element") -> bool:
    """<image:loc> and <video:…> name pictures, not pages."""
    return "image" not in element.tag and "video" not in element.tag


def _same_site(link: str, url: str) -> bool:
    try:
        one, other = ((urlsplit(u).hostname or "").removeprefix("www.") for u in (link, url))
    except ValueError:
        return False
    return one == other or one.endswith("." + other) or other.endswith("." + one)


def _unique(links: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(links))
