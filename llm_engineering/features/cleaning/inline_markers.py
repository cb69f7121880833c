"""Write a page's inline structure into its text, so that it survives extraction.

Extractors choose *which* text of a page is the article, but on the way they drop or damage how it was marked up: links
break sentences apart, code loses its line breaks, the last fallbacks return bare paragraphs. So before the extractor
runs, every link, emphasis, heading and code block is written into the text itself as single private-use characters.
They are text to the extractor, and `render` turns them back into Markdown.
"""

import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from lxml.html import HtmlElement

from llm_engineering.features.cleaning.code import CodeBlock, code_block, code_containers

LINK_CLOSE, STRONG_OPEN, STRONG_CLOSE, EM_OPEN, EM_CLOSE, CODE_OPEN, CODE_CLOSE, BLOCK_CLOSE, ITEM = (
    chr(0x100000 + n) for n in range(9)
)
HEADINGS = {f"h{level}": chr(0x100010 + level) for level in range(1, 7)}
FIRST_LINK, FIRST_BLOCK, END = 0x100100, 0x108000, 0x10FFFE
MARKER = re.compile("[\U00100000-\U0010fffd]")

_EMPHASIS = {
    "strong": (STRONG_OPEN, STRONG_CLOSE),
    "b": (STRONG_OPEN, STRONG_CLOSE),
    "em": (EM_OPEN, EM_CLOSE),
    "i": (EM_OPEN, EM_CLOSE),
}
MOST_ELEMENTS = 1_000  # inside what is still a wrapper of one code block
_INLINE_CODE = {"code", "kbd", "samp", "tt"}


class Markers(NamedTuple):
    """What the markers in a tree stand for."""

    base: str  # what links are relative to; "" when nobody knows
    links: list[str]  # as the page writes them
    blocks: list[CodeBlock]

    def target(self, marker: str) -> str:
        """Where a link leads, absolute if that can be known; "" if a reader could not follow it."""
        index = ord(marker) - FIRST_LINK
        return absolute(self.links[index], self.base) if index < len(self.links) else ""


def is_link(char: str) -> bool:
    return FIRST_LINK <= ord(char) < FIRST_BLOCK


def is_block(char: str) -> bool:
    return FIRST_BLOCK <= ord(char) < END


def insert_markers(root: HtmlElement, base: str) -> Markers:
    """Into the text of the tree, in place; gives what they stand for."""
    markers = Markers(base, [], [])
    _insert_block_markers(root, markers.blocks)
    for element in list(root.iter("a", "q", *HEADINGS, *_EMPHASIS, *_INLINE_CODE)):
        tag = element.tag
        if tag == "a":
            _insert_link_marker(element, markers.links)
        elif tag == "q":
            element.tag = "span"
            _wrap(element, "“", "”")
        elif tag in HEADINGS:
            element.text = HEADINGS[tag] + (element.text or "").lstrip()
        elif _has_text(element):
            if tag in _INLINE_CODE:
                element.tag = "span"
                _wrap(element, CODE_OPEN, CODE_CLOSE)
            else:
                _wrap(element, *_EMPHASIS[tag])
    return markers


def _insert_block_markers(root: HtmlElement, blocks: list[CodeBlock]) -> None:
    """Every code block becomes a bare <pre> around a copy of its words (so that lengths still mean something)."""
    for element in list(code_containers(root)):
        block = code_block(element)
        tail = element.tail
        element.clear()
        element.tail = tail
        if block.text.strip() and FIRST_BLOCK + len(blocks) < END:
            element.tag = "pre"
            element.text = chr(FIRST_BLOCK + len(blocks)) + " ".join(block.text.split()) + BLOCK_CLOSE
            blocks.append(block)
            _unwrap(element)


def _unwrap(element: HtmlElement) -> None:
    """Extractors throw away figures and whatever is called a toolbar, and some sites keep their code in them."""
    room = 1.5 * len(element.text or "") + 40
    for above, _ in zip(element.iterancestors("div", "figure", "label", "button", "td"), range(4), strict=False):
        if not _holds_little(above, room):
            return
        above.attrib.clear()
        if above.tag != "td":
            above.tag = "div"


def _holds_little(element: HtmlElement, room: float) -> bool:
    """At most so many characters, in few elements. No further than that is looked: a thousand blocks may share one."""
    for count, inner in enumerate(element.iter()):
        room -= len(inner.text or "") + (len(inner.tail or "") if count else 0)
        if room < 0 or count > MOST_ELEMENTS:
            return False
    return True


def _insert_link_marker(element: HtmlElement, links: list[str]) -> None:
    """Most links of a page are not in its article, so they are only made absolute when rendered."""
    target = (element.get("href") or "").strip()
    if target and not target.startswith("#") and FIRST_LINK + len(links) < FIRST_BLOCK and _has_text(element):
        _wrap(element, chr(FIRST_LINK + len(links)), LINK_CLOSE)
        links.append(target)


def absolute(href: str, base: str) -> str:
    """The link a reader could follow, or "" for a place on the same page, a script or nonsense."""
    try:
        link = urljoin(base, href)
        scheme = urlsplit(link).scheme
    except ValueError:
        return ""
    if scheme not in ("http", "https", "mailto", ""):
        return ""
    return "".join(f"%{ord(c):02X}" if c in ' ()<>"\\' or c < " " else c for c in link)


def _wrap(element: HtmlElement, opening: str, closing: str) -> None:
    element.text = opening + (element.text or "")
    if len(element):
        element[-1].tail = (element[-1].tail or "") + closing
    else:
        element.text += closing


def _has_text(element: HtmlElement) -> bool:
    return any(not text.isspace() for text in element.itertext())
