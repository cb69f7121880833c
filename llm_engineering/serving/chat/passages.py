"""A passage as a reader likes to see it: its Markdown formatted, code as code, and what was quoted from it marked.

What was crawled is hostile until shown otherwise. Nothing in it becomes a tag of its own, a link or an image; links
and images are shown as their words.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import Any

from llm_engineering.domain.answers import Citation, Passage
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.text import storable, storable_in_place

MARKDOWN_FILES = (".md", ".markdown", ".mdx")
# Private characters that go through Markdown like letters: each word of a quotation is put between two of them, as the
# quotation as a whole may begin in one paragraph, list or code block and end in another.
_OPEN, _CLOSE = "\ue000", "\ue001"
# An entity, and the number of a list's item, would no longer be one with a mark in it; so they stay without.
_WORD = re.compile(r"&#?\w{1,31};|^[ \t]*\d{1,9}[.)](?=\s)|([^\s!-/:-@\[-`{-~]+[.?]?)", re.MULTILINE)
_BETWEEN = re.compile(rf"{_CLOSE}((?:[^<&\w{_OPEN}{_CLOSE}]|_|&(?:amp|lt|gt|quot|\#\w+);)*){_OPEN}")


def passage_html(passage: Passage, citations: Sequence[Citation]) -> str:
    """The quoted spans, `text[start:end]`, are in <mark>; in several, where tags lie between their words."""
    text = storable_in_place(passage.text).replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd")
    for start, end in reversed(_spans(citations, len(text))):
        text = text[:start] + _WORD.sub(_marked, text[start:end]) + text[end:]
    chunk = passage.chunk
    is_code = chunk.kind == Kind.REPOSITORY and not chunk.link.lower().endswith(MARKDOWN_FILES)
    html = f"<pre><code>{escape(text)}</code></pre>" if is_code else _markdown().render(text)
    return _BETWEEN.sub(r"\1", html).replace(_OPEN, "<mark>").replace(_CLOSE, "</mark>")


def escaped(text: str) -> str:
    """For HTML, and without half characters, which no page may hold."""
    return escape(storable(text))


def _spans(citations: Iterable[Citation], length: int) -> list[tuple[int, int]]:
    """In order; overlapping ones as one."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted((max(0, one.start), min(length, one.end)) for one in citations):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif start < end:
            spans.append((start, end))
    return spans


def _marked(found: re.Match) -> str:
    return f"{_OPEN}{found[1]}{_CLOSE}" if found[1] else found[0]


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    # without `html` a tag is text; without `reference` and `autolink` so is an address
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    markdown.disable(["reference", "autolink", "html_inline", "html_block"])
    markdown.validateLink = lambda url: True  # none is followed: only its words are shown
    for rule, html in (
        ("link_open", ""),
        ("link_close", ""),
        ("heading_open", '<p class="heading">'),  # not of the page's own outline
        ("heading_close", "</p>"),
    ):
        markdown.add_render_rule(rule, lambda renderer, tokens, at, options, env, html=html: html)
    markdown.add_render_rule("image", _words_of_an_image)
    markdown.add_render_rule("fence", _code)
    return markdown


def _words_of_an_image(renderer: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    return escape(renderer.renderInlineAsText(tokens[at].children, options, env))


def _code(renderer: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    return f"<pre><code>{escape(tokens[at].content)}</code></pre>\n"
