"""Clean text into passages that fill the encoder and never overflow it."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

Syntax = Literal["markdown", "code", "text"]
CountTokens = Callable[[Sequence[str]], list[int]]

SMALLEST_LIMIT = 16  # tokens; below, one character and the special tokens may not fit
_CHARACTERS_PER_TOKEN = {"markdown": 3.0, "text": 3.4, "code": 2.4}  # WordPiece on the articles and on Python
_LONGEST_PER_TOKEN = 8  # characters; some encoders read a blob of any length as one unknown token
_LONG_LINE = 8_000  # characters; the splitter takes time quadratic in the length of a line
_HEADING = re.compile(r"\s*#{1,6}[ \t]")


class Span(NamedTuple):
    """`text[start:end]` of the text that was split. `tokens` as the encoder counts them, special ones included."""

    start: int
    end: int
    tokens: int


def split(text: str, *, syntax: Syntax, max_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Spans of at most `max_tokens` tokens that join to exactly `text`; none for text that is only white space.

    Cuts are made at headings, blocks, lines, sentences and words, in this order of preference (for code: at blank
    lines, lines, words). No span is only white space, unless the encoder counts white space and there is more of it
    than fits beside a word. The same text always gets the same spans, and an edit moves only the spans near it.
    Counting is what takes time, so text is cut by characters first, and counted again only where that overflowed.
    """
    if max_tokens < SMALLEST_LIMIT:
        raise ValueError(f"max_tokens is {max_tokens}; at least {SMALLEST_LIMIT} are needed to hold any character")
    if not text.strip():
        return []
    size = max(1, int(max_tokens * _CHARACTERS_PER_TOKEN[syntax] / _bytes_per_character(text)))
    pieces = _with_white_space(text, _offsets(0, _cut(text, size, markdown=syntax == "markdown")))
    spans = _within_limit(text, _counted(text, pieces, count_tokens), max_tokens, count_tokens)
    return _without_small(text, spans, max_tokens, count_tokens)


def _bytes_per_character(text: str) -> int:
    """1 for Latin, 2 for Cyrillic or Arabic, 3 for Chinese: encoders need more tokens for them, about in proportion."""
    return round(len(text.encode("utf-8", "surrogatepass")) / len(text)) or 1


# --- cutting by characters ---


def _cut(text: str, size: int, *, markdown: bool) -> Iterator[str]:
    """Pieces of at most `size` characters that join to `text`."""
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = (MarkdownSplitter if markdown else TextSplitter)(size, trim=False)
    for part in _without_long_lines(text):
        yield from splitter.chunks(part)


def _without_long_lines(text: str) -> Iterator[str]:
    """The text itself when its lines are of usual length; otherwise its long lines are parts of their own."""
    start = 0
    for line in re.finditer(rf"[^\n]{{{_LONG_LINE},}}\n?", text):
        if line.start() > start:
            yield text[start : line.start()]
        yield from _parts_of_line(line.group())
        start = line.end()
    if start < len(text):
        yield text[start:]


def _parts_of_line(line: str) -> Iterator[str]:
    """Cut after the last white space of each `_LONG_LINE` characters, where there is any in its second half."""
    start = 0
    while len(line) - start > _LONG_LINE:
        middle, end = start + _LONG_LINE // 2, start + _LONG_LINE
        blank = max(line.rfind(" ", middle, end), line.rfind("\t", middle, end))
        end = blank + 1 if blank >= 0 else end
        yield line[start:end]
        start = end
    yield line[start:]


def _offsets(start: int, pieces: Iterator[str]) -> list[tuple[int, int]]:
    return list(pairwise(accumulate((len(piece) for piece in pieces), initial=start)))


def _with_white_space(text: str, pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """White space alone joins the piece before it; at the very beginning, the piece after it."""
    joined: list[tuple[int, int]] = []
    begin = None
    for start, end in pieces:
        if not text[start:end].isspace():
            joined.append((start if begin is None else begin, end))
            begin = None
        elif joined:
            joined[-1] = (joined[-1][0], end)
        elif begin is None:
            begin = start
    return joined


# --- counting ---


def _counted(text: str, pieces: list[tuple[int, int]], count_tokens: CountTokens) -> list[Span]:
    counts = count_tokens([text[start:end] for start, end in pieces])
    return [Span(start, end, tokens) for (start, end), tokens in zip(pieces, counts, strict=True)]


def _within_limit(text: str, spans: list[Span], max_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Cut what overflows into even parts, count these, and again, until nothing overflows."""
    while any(span.tokens > max_tokens for span in spans):
        parts = {span: _parts(text, span, max_tokens) for span in spans if span.tokens > max_tokens}
        counted = iter(_counted(text, [part for cut in parts.values() for part in cut], count_tokens))
        spans = [part for span in spans for part in ([next(counted) for _ in parts[span]] if span in parts else [span])]
    return spans


def _parts(text: str, span: Span, max_tokens: int) -> list[tuple[int, int]]:
    """At least two parts of one span."""
    length = span.end - span.start
    if length < 2:
        raise ValueError(f"one character, {text[span.start : span.end]!r}, takes {span.tokens} of {max_tokens} tokens")
    even = -(-length // -(-span.tokens // (max_tokens - 2)))
    size = min(length - 1, even + even // 8)
    parts = _offsets(span.start, _cut(text[span.start : span.end], size, markdown=False))
    joined = _with_white_space(text, parts)
    return joined if len(joined) > 1 else parts


# --- joining what is too small to stand alone ---


def _without_small(text: str, spans: list[Span], max_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Spans under a quarter of the limit join a neighbour: a heading the text after it, the rest the text before it."""
    groups = _grouped(text, spans, max_tokens, special=count_tokens([""])[0])
    joined = [(group[0].start, group[-1].end) for group in groups if len(group) > 1]
    counted = {span.start: span for span in _counted(text, joined, count_tokens)}
    result: list[Span] = []
    for group in groups:
        whole = counted.get(group[0].start)
        result += [whole] if whole and whole.tokens <= max_tokens else group
    return result


def _grouped(text: str, spans: list[Span], max_tokens: int, *, special: int) -> list[list[Span]]:
    small, longest = max_tokens // 4, max_tokens * _LONGEST_PER_TOKEN
    groups: list[list[Span]] = []
    tokens = 0
    for span in spans:
        if groups:
            last = groups[-1]
            fits = tokens + span.tokens - special <= max_tokens and span.end - last[0].start <= longest
            after = span.tokens < small and not _HEADING.match(text, span.start, span.end)
            if fits and (tokens < small or after):
                last.append(span)
                tokens += span.tokens - special
                continue
        groups.append([span])
        tokens = span.tokens
    return groups
