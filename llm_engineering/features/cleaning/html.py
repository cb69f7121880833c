"""HTML into Markdown: the article stays, what surrounds it goes."""

import logging
from collections.abc import Iterable

from lxml.etree import strip_elements  # ty: ignore[import-not-found]  # compiled, without stubs
from lxml.html import HtmlElement

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.inline_markers import insert_markers
from llm_engineering.features.cleaning.page import facts, parse
from llm_engineering.features.cleaning.render import render

LONGEST_PAGE = 15_000_000  # characters; the longest real pages, standards on one page, have 13 million
_DROPPED = "dropped"  # no tag of HTML
# never an article's text, whatever the extractor would make of them; a smaller tree is also a faster one
_NEVER_TEXT = (
    *("style", "svg", "noscript", "iframe", "template", "canvas", "object", "embed", "link", "meta", "map"),
    *("nav", "footer", "aside", "button", "select", "input", "textarea", "menu", "dialog", "audio", "video"),
)


def html_to_markdown(html: str, *, base: str = "", without: Iterable[str] = ()) -> Cleaned:
    """The article's Markdown ("" when there is none) and what the page says about itself.

    `base` is the page's address, for relative links; without it the page's own <base> or canonical link is used.
    What the XPath expressions `without` match is what a site puts around its articles; it goes first. Raises
    CleaningError for a page of over LONGEST_PAGE characters.
    """
    if len(html) > LONGEST_PAGE:
        raise CleaningError(f"the page has {len(html):,} characters, over the limit of {LONGEST_PAGE:,}")
    root = parse(html)
    if root is None:
        return Cleaned("")
    page = facts(root)
    _drop(root, (element for path in without for element in root.xpath(path)))
    _drop_non_text(root)
    markers = insert_markers(root, base or page.base)
    from trafilatura import bare_extraction
    from trafilatura.settings import Document as Extracted

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # an empty page is in our own report
    found = bare_extraction(root, output_format="txt", include_comments=False)
    text = render(found.body, markers) if isinstance(found, Extracted) else ""
    return Cleaned(text, "markdown", page.title, page.published_at)


def _drop_non_text(root: HtmlElement) -> None:
    """JSON-LD stays: the extractor reads it."""
    strip_elements(root, *_NEVER_TEXT, with_tail=False)
    scripts = (s for s in root.iter("script") if (s.get("type") or "").strip().lower() != "application/ld+json")
    _drop(root, scripts)


def _drop(root: HtmlElement, elements: Iterable[HtmlElement]) -> None:
    """With all that is in them, and without the text after them. All at once: `drop_tree` of each would move that text
    over and over."""
    for element in list(elements):
        if element is not root:
            element.tag = _DROPPED
    strip_elements(root, _DROPPED, with_tail=False)
