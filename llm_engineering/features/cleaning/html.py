"""HTML into Markdown: the article stays, what surrounds it goes."""

from collections.abc import Callable

from lxml.html import HtmlElement

from llm_engineering.features.cleaning.marks import mark
from llm_engineering.features.cleaning.page import PageFacts, facts, parse
from llm_engineering.features.cleaning.render import render

_NEVER_TEXT = ("style", "svg", "noscript", "iframe", "template", "canvas", "object", "embed")


def html_to_markdown(
    html: str, *, base: str = "", prune: Callable[[HtmlElement], None] | None = None
) -> tuple[str, PageFacts]:
    """The article's Markdown ("" when there is none) and what the page says about itself.

    `base` is the page's address, for relative links; without it the page's own <base> or canonical link is used.
    `prune` may take away what a site puts around its articles, in place, before the article is looked for.
    """
    root = parse(html)
    if root is None:
        return "", PageFacts()
    page = facts(root)
    if prune:
        prune(root)
    _drop_machinery(root)
    marked = mark(root, base or page.base)
    from trafilatura import bare_extraction

    found = bare_extraction(root, output_format="txt", include_comments=False)
    return ("" if found is None else render(found.body, marked)), page


def _drop_machinery(root: HtmlElement) -> None:
    """A smaller tree is a faster one. JSON-LD stays: the extractor reads it."""
    for element in list(root.iter("script", *_NEVER_TEXT)):
        if element.tag != "script" or (element.get("type") or "").strip().lower() != "application/ld+json":
            element.drop_tree()
