"""An HTML page as a tree, and what it says about itself."""

import json
import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lxml import etree  # ty: ignore[missing-module-member]  # compiled, without stubs
from lxml.html import HtmlElement, HTMLParser

from llm_engineering.domain.text import storable

_CONTROL = bytes(set(range(0x20)) - set(b"\t\n\r")) + b"\x7f"
_OUR_MARKERS = re.compile(rb"\xf4[\x80-\x8f][\x80-\xbf]{2}|\xef\xbf[\xbe\xbf]")  # U+100000 and up; U+FFFE, U+FFFF
_TITLE = ("og:title", "twitter:title", "dc.title", "title")
_DATE = (
    *("article:published_time", "og:article:published_time", "datepublished", "date", "dc.date", "dc.date.issued"),
    *("dcterms.created", "dcterms.date", "publish_date", "publication_date", "parsely-pub-date", "sailthru.date"),
    *("pubdate", "citation_publication_date", "citation_date", "article.published"),
)

_NOT_FLAT = re.compile(  # a script ends before the next one, so that none is read twice
    rb"<(script|style)\b(?:(?!<\1\b).)*?</\1\s*>|<(?!/?(?:p|title)\b)[^<>]*>", re.DOTALL | re.IGNORECASE
)
MAX_DEPTH = 100  # of elements; real pages stay under 60
_TOO_DEEP = etree.XPath("/*" * MAX_DEPTH + "[*]")


class PageFacts(NamedTuple):
    title: str = ""
    published_at: datetime | None = None
    base: str = ""  # what relative links are relative to, where the page says so
    canonical: str = ""
    free: bool | None = None  # schema.org isAccessibleForFree


def parsable(html: str) -> bytes:
    """UTF-8 without NUL bytes and the like; a lone surrogate becomes U+FFFD."""
    data = storable(html).encode().translate(None, _CONTROL)
    return _OUR_MARKERS.sub(b"", data) if b"\xf4" in data or b"\xef\xbf" in data else data


def parse(html: str) -> HtmlElement | None:
    """The page's root, or None when there is no element in it. Takes any text; never raises.

    What is nested deeper than MAX_DEPTH keeps its words and loses its structure: extractors recurse.
    """
    data = parsable(html)
    # the HTML parser reads bytes as we say, whatever the page declares; comments and instructions are nobody's text
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, collect_ids=False, huge_tree=True)
    if not data.strip():
        return None
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        return None
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        # nested over 2,048 deep, where the parser stops reading: keep the paragraphs
        root = etree.fromstring(_NOT_FLAT.sub(b" ", data), parser)
    if root is None:
        return None
    for deep in _TOO_DEEP(root):
        text = " ".join(deep.itertext())
        del deep[:]
        deep.text = text
    return root


def facts(root: HtmlElement) -> PageFacts:
    """Title and date from JSON-LD, meta tags and the first <h1> or <time>, in this order of trust."""
    metas = _metas(root)
    linked = list(_json_ld(root))
    canonical = next((link.get("href") or "" for link in root.iter("link") if link.get("rel") == "canonical"), "")
    base = next((b.get("href") or "" for b in root.iter("base")), "")
    return PageFacts(
        title=_title(root, metas, linked),
        published_at=_published(root, metas, linked),
        base=next((b for b in (base, canonical, metas.get("og:url", "")) if b.startswith("http")), ""),
        canonical=canonical,
        free=next((free for node in linked if (free := _is_free(node)) is not None), None),
    )


def parse_date(text: Any) -> datetime | None:
    """ISO 8601 or RFC 2822 into an aware UTC datetime; None for anything else. A bare year is no date."""
    if not isinstance(text, str) or len(text) < 8 or len(text) > 64:
        return None
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _metas(root: HtmlElement) -> dict[str, str]:
    """Name or property, lower case -> content; the first of each wins."""
    metas: dict[str, str] = {}
    for meta in root.iter("meta"):
        name = (meta.get("property") or meta.get("name") or meta.get("itemprop") or "").strip().lower()
        content = (meta.get("content") or "").strip()
        if name and content:
            metas.setdefault(name, content)
    return metas


def _json_ld(root: HtmlElement) -> Iterator[dict[str, Any]]:
    """Every object of every JSON-LD script, outermost first. Broken JSON is skipped: pages are full of it."""
    for script in root.iter("script"):
        if (script.get("type") or "").strip().lower() == "application/ld+json" and script.text:
            try:
                waiting = deque([json.loads(script.text, strict=False)])
            except (ValueError, RecursionError):
                continue
            while waiting:
                node = waiting.popleft()
                if isinstance(node, list):
                    waiting.extend(node)
                elif isinstance(node, dict):
                    yield node
                    waiting.extend(value for value in node.values() if isinstance(value, (dict, list)))


def _is_article(node: dict[str, Any]) -> bool:
    kinds = node.get("@type")
    return any(
        isinstance(kind, str) and kind.endswith(("Article", "Posting", "Report"))
        for kind in (kinds if isinstance(kinds, list) else [kinds])
    )


def _is_free(node: dict[str, Any]) -> bool | None:
    free = node.get("isAccessibleForFree")
    if isinstance(free, str):
        return {"true": True, "false": False}.get(free.strip().lower())
    return free if isinstance(free, bool) else None


def _title(root: HtmlElement, metas: dict[str, str], linked: list[dict[str, Any]]) -> str:
    for node in linked:
        if _is_article(node) and isinstance(node.get("headline"), str) and node["headline"].strip():
            return _line(node["headline"])
    for name in _TITLE:
        if metas.get(name):
            return _line(metas[name])
    headings = [_line("".join(h.itertext())) for h in root.iter("h1")]
    if len(headings) == 1 and headings[0]:
        return headings[0]
    return next((line for title in root.iter("title") if (line := _line("".join(title.itertext())))), "")


def _published(root: HtmlElement, metas: dict[str, str], linked: list[dict[str, Any]]) -> datetime | None:
    for node in linked:
        if _is_article(node) and (moment := parse_date(node.get("datePublished"))):
            return moment
    for name in _DATE:
        if moment := parse_date(metas.get(name)):
            return moment
    for time in root.iter("time"):
        if moment := parse_date(time.get("datetime")):
            return moment
    return None


def _line(text: str) -> str:
    from html import unescape

    return " ".join(unescape(text).split())[:500]
