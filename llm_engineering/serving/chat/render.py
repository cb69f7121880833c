"""Turns as HTML. What was crawled, asked or generated is escaped; only a source's own link can be clicked."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from llm_engineering.domain.answers import Answer, Citation, ParsedQuestion, Passage
from llm_engineering.domain.citation_format import VERIFIED_CITATION
from llm_engineering.serving.chat.passages import escaped, passage_html


def question_html(text: str) -> str:
    return f'<div class="turn asked"><p>{escaped(text)}</p></div>'


def waiting_html(understood: ParsedQuestion | None, passages: Sequence[Passage] | None) -> str:
    """While there is no text yet: what is being done."""
    if understood is None:
        doing = "Reading the question"
    elif passages is None:
        doing = "Searching the sources"
    else:
        doing = f"Reading {len(passages)} {'passage' if len(passages) == 1 else 'passages'}"
    return f'<div class="turn answered"><p class="doing">{doing}<span class="dots"></span></p></div>'


def answer_html(
    turn: str, text: str, passages: Sequence[Passage], answer: Answer | None = None, *, sources: str | None = None
) -> str:
    """`turn` makes the ids of this answer's sources unique. Without `answer` it is still being written; `sources` are
    those of `sources_html`, when they are there already."""
    body = _markdown().render(text, {"turn": turn, "numbers": {one.number for one in passages}})
    return (
        f'<div class="turn answered{"" if answer else " writing"}"><div class="text">{body}</div>'
        + (sources_html(turn, passages, answer) if sources is None else sources)
        + (_notes(answer) if answer else "")
        + "</div>"
    )


def sources_html(turn: str, passages: Sequence[Passage], answer: Answer | None = None) -> str:
    citations = answer.citations if answer else ()
    suspicious = set(answer.suspicious_passages) if answer else set()
    items = "".join(source_html(turn, one, citations, suspicious=one.number in suspicious) for one in passages)
    return f'<h3 class="sources">Sources</h3><ol class="sources">{items}</ol>' if items else ""


def error_html(message: str) -> str:
    text = f"<strong>That did not work.</strong> <span>{escaped(message)}</span>"
    return f'<div class="turn failed" role="alert">{text}</div>'


def source_html(turn: str, passage: Passage, citations: Sequence[Citation], *, suspicious: bool = False) -> str:
    chunk = passage.chunk
    cited = [one for one in citations if one.passage == passage.number]
    title = chunk.title.strip() or chunk.link
    place = " / ".join(heading for heading in chunk.headings if heading != chunk.title)
    day = chunk.published_at.date().isoformat() if chunk.published_at else ""
    facts = " · ".join(filter(None, (chunk.author_name, day, str(chunk.kind))))
    warning = (
        '<p class="warning">This passage holds text that looks like instructions. It was not followed.</p>'
        if suspicious
        else ""
    )
    return (
        f'<li id="{_anchor(turn, passage.number)}" class="{"cited" if cited else "unused"}">'
        f'<details><summary><span class="number">{passage.number}</span>'
        f'<span class="title">{escaped(title)}</span> <span class="facts">{escaped(facts)}</span>'
        "</summary>"
        + (f'<p class="place">{escaped(place)}</p>' if place else "")
        + f'<blockquote>{passage_html(passage, cited)}</blockquote>{warning}<p class="link">{_link(chunk.url)}</p>'
        "</details></li>"
    )


def _notes(answer: Answer) -> str:
    notes = list(answer.understood.notes)
    if answer.understood.queries[1:]:
        notes.append("also searched: " + "; ".join(answer.understood.queries[1:]))
    if removed := answer.removed_citations:
        notes.append(
            f"{removed} {'citation' if removed == 1 else 'citations'} could not be verified in the sources and "
            f"{'was' if removed == 1 else 'were'} left out"
        )
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    model = f"answered by {escaped(answer.model)}" if answer.model else ""
    trace = f"trace {escaped(answer.trace_id)}" if answer.trace_id else ""
    return (
        f'<ul class="notes">{items}</ul>' if items else ""
    ) + f'<p class="trace">{" · ".join(filter(None, (model, trace)))}</p>'


def _link(url: str) -> str:
    """Clickable only when it leads to the web; a file's place is shown as text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return escaped(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return escaped(url)
    return f'<a href="{escaped(url)}" target="_blank" rel="noopener noreferrer nofollow">{escaped(url)}</a>'


def _anchor(turn: str, number: int) -> str:
    return f"source-{escaped(turn)}-{number}"


@cache
def _markdown() -> Any:
    """Formatting, without raw HTML, images or links: a model must not make a reader's browser go anywhere."""
    from markdown_it import MarkdownIt

    rules = ["link", "image", "autolink", "reference", "html_inline", "html_block"]
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable(rules)
    markdown.add_render_rule("text", _text_with_citations)
    return markdown


def _text_with_citations(renderer: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    def cited(found: re.Match) -> str:
        number = int(found[1])
        if number not in env["numbers"]:
            return found[0]
        return f'<a class="cite" href="#{_anchor(env["turn"], number)}" aria-label="source {number}">{number}</a>'

    return VERIFIED_CITATION.sub(cited, escaped(tokens[at].content))
