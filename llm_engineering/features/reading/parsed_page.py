"""A page as a reader without scripts sees it."""

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.html import HtmlElement

    from llm_engineering.features.cleaning.page import PageFacts

_SHELL_ROOTS = {"root", "app", "__next", "__nuxt", "___gatsby", "svelte", "app-root", "react-root", "main-app", "q-app"}


class ParsedPage:
    """Parsed once; what is expensive is only done when asked for."""

    def __init__(self, html: str) -> None:
        self.html = html

    @cached_property
    def _root(self) -> "HtmlElement | None":
        from llm_engineering.features.cleaning.page import parse

        return parse(self.html)

    @cached_property
    def facts(self) -> "PageFacts":
        """Title, date, canonical link."""
        from llm_engineering.features.cleaning.page import PageFacts, facts

        return PageFacts() if self._root is None else facts(self._root)

    @cached_property
    def text(self) -> str:
        """What stands on the page, white space collapsed; title, scripts and <noscript> are not on it."""
        if self._root is None:
            return ""
        from lxml.etree import strip_elements  # ty: ignore[import-not-found]  # lxml ships no types

        visible = copy(self._root)
        strip_elements(visible, "head", "title", "script", "style", "noscript", "template", with_tail=False)
        return " ".join(" ".join(visible.itertext()).split())

    @cached_property
    def noscript(self) -> str:
        if self._root is None:
            return ""
        return " ".join(" ".join("".join(n.itertext()) for n in self._root.iter("noscript")).split())

    @cached_property
    def article(self) -> str:
        """What the cleaner would keep."""
        from llm_engineering.features.cleaning.html import html_to_markdown

        return html_to_markdown(self.html)[0]

    def has(self, path: str) -> bool:
        return self._root is not None and bool(self._root.xpath(path))

    @cached_property
    def empty_root(self) -> bool:
        """The element a JavaScript framework would fill, and has not."""
        if self._root is None:
            return False
        return any(
            (div.get("id") in _SHELL_ROOTS or div.tag == "app-root") and len("".join(div.itertext()).strip()) < 50
            for div in self._root.iter("div", "main", "app-root")
        )
