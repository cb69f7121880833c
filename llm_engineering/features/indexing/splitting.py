"""Clean text into passages that fill the encoder and never overflow it."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import NamedTuple
from zlib import crc32

from llm_engineering.features.cleaning.cleaned import Syntax

CountTokens = Callable[[Sequence[str]], list[int]]

SMALLEST_LIMIT = 16  # tokens; below, one character and the special tokens may not fit
_CHARACTERS_PER_TOKEN = {"markdown": 3.0, "text": 3.4, "code": 2.4}  # WordPiece on the articles and on Python
_LONGEST_PER_TOKEN = 8  # characters; some encoders read a blob of any length as one unknown token
_LONG_LINE = 8_000  # characters; the splitter takes time quadratic in the length of a line
_LONGEST_PART = 32_000  # characters; the splitter takes time quadratic in what it is given at once
_PART_BREAKS = (re.compile(r"\n(?=#{1,6} )"), re.compile(r"\n[ \t]*\n(?!\n)"), re.compile(r"\n"))
_HEADING = re.compile(r"\s*#{1,6}[ \t]")


Piece = tuple[int, int]  # where it starts and ends


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
    """
    return split_all([(text, syntax)], max_tokens=max_tokens, count_tokens=count_tokens)[0]


def split_all(texts: Sequence[tuple[str, Syntax]], *, max_tokens: int, count_tokens: CountTokens) -> list[list[Span]]:
    """As `split` of each text, in less time: counting is what takes it, and counting many at once is faster."""
    pieces = [first_cut(text, syntax, max_tokens) for text, syntax in texts]
    return fitted([text for text, _ in texts], pieces, max_tokens=max_tokens, count_tokens=count_tokens)


def fitted(
    texts: Sequence[str], pieces: Sequence[Sequence[Piece]], *, max_tokens: int, count_tokens: CountTokens
) -> list[list[Span]]:
    """The pieces of `first_cut` as spans: counted, and cut or joined where they overflow or are small."""
    if not texts:
        return []
    count = _Counting(texts, count_tokens)
    spans = _within_limit(count(pieces), max_tokens, count)
    return _without_small(spans, max_tokens, count)


def first_cut(text: str, syntax: Syntax, max_tokens: int) -> list[Piece]:
    """By characters, into pieces of about `max_tokens` tokens that join to `text`; none for white space."""
    if max_tokens < SMALLEST_LIMIT:
        raise ValueError(f"max_tokens is {max_tokens}; at least {SMALLEST_LIMIT} are needed to hold any character")
    if not text.strip():
        return []
    size = max(1, int(max_tokens * _CHARACTERS_PER_TOKEN[syntax] / _bytes_per_character(text)))
    return _with_white_space(text, _offsets(0, _cut(text, size, markdown=syntax == "markdown")))


class _Counting:
    """Counts the tokens of pieces of several texts in one call: pieces per text in, spans per text out."""

    def __init__(self, texts: Sequence[str], count_tokens: CountTokens) -> None:
        self.texts, self.count_tokens = texts, count_tokens
        [self.special] = count_tokens([""])

    def __call__(self, pieces: Sequence[Sequence[Piece]]) -> list[list[Span]]:
        passages = [text[start:end] for text, own in zip(self.texts, pieces, strict=True) for start, end in own]
        counts = self.count_tokens(passages)
        if len(counts) != len(passages):
            raise ValueError(f"{len(passages)} texts were to be counted, and {len(counts)} counts came back")
        tokens = iter(counts)
        return [[Span(start, end, next(tokens)) for start, end in own] for own in pieces]


def _bytes_per_character(text: str) -> int:
    """1 for Latin, 2 for Cyrillic or Arabic, 3 for Chinese: encoders need more tokens for them, about in proportion."""
    return round(len(text.encode("utf-8", "surrogatepass")) / len(text)) or 1


# --- cutting by characters ---


def _cut(text: str, size: int, *, markdown: bool) -> Iterator[str]:
    """Pieces of at most `size` characters that join to `text`."""
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = (MarkdownSplitter if markdown else TextSplitter)(size, trim=False)
    for lines in _without_long_lines(text):
        for part in _bounded_parts(lines):
            yield from splitter.chunks(part)


def _without_long_lines(text: str) -> Iterator[str]:
    """The text itself when its lines are of usual length; otherwise its long lines are parts of their own."""
    start = 0
    for line in re.finditer(rf"(?<![^\n])[^\n]{{{_LONG_LINE},}}\n?", text):
        if line.start() > start:
            yield text[start : line.start()]
        yield from _parts_of_line(line.group())
        start = line.end()
    if start < len(text):
        yield text[start:]


def _bounded_parts(text: str) -> Iterator[str]:
    """Of at most `_LONGEST_PART` characters, cut before headings, or else at blank lines, or else at lines."""
    start = 0
    while len(text) - start > _LONGEST_PART:
        end = _break_between(text, start + _LONGEST_PART // 2, start + _LONGEST_PART)
        yield text[start:end]
        start = end
    yield text[start:]


def _break_between(text: str, low: int, high: int) -> int:
    """Of several places the one whose next words have the lowest checksum: an edit far above does not move it."""
    for kind in _PART_BREAKS:
        if places := [found.end() for found in kind.finditer(text, low, high)]:
            return min(places, key=lambda place: crc32(text[place : place + 64].encode("utf-8", "surrogatepass")))
    return high


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


def _offsets(start: int, pieces: Iterator[str]) -> list[Piece]:
    return list(pairwise(accumulate((len(piece) for piece in pieces), initial=start)))


def _with_white_space(text: str, pieces: list[Piece]) -> list[Piece]:
    """White space alone joins the piece before it; at the very beginning, the piece after it."""
    joined: list[Piece] = []
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


# --- cutting what overflows ---


def _within_limit(spans: list[list[Span]], max_tokens: int, count: _Counting) -> list[list[Span]]:
    """Cut what overflows into even parts, count these, and again, until nothing overflows."""
    while any(span.tokens > max_tokens for own in spans for span in own):
        parts = [
            {span: _parts(text, span, max_tokens) for span in own if span.tokens > max_tokens}
            for text, own in zip(count.texts, spans, strict=True)
        ]
        counted = count([[piece for cut in own.values() for piece in cut] for own in parts])
        spans = [_replaced(*one) for one in zip(spans, parts, counted, strict=True)]
    return spans


def _replaced(spans: list[Span], parts: dict[Span, list[Piece]], counted: list[Span]) -> list[Span]:
    """Each span that was cut gives way to its counted parts."""
    new = iter(counted)
    return [part for span in spans for part in (islice(new, len(parts[span])) if span in parts else (span,))]


def _parts(text: str, span: Span, max_tokens: int) -> list[Piece]:
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


def _without_small(spans: list[list[Span]], max_tokens: int, count: _Counting) -> list[list[Span]]:
    """Spans under a quarter of the limit join a neighbour: a heading the text after it, the rest the text before it."""
    groups = [
        _grouped(text, own, max_tokens, special=count.special) for text, own in zip(count.texts, spans, strict=True)
    ]
    joined = count([[(group[0].start, group[-1].end) for group in own if len(group) > 1] for own in groups])
    return [_joined(own, iter(wholes), max_tokens) for own, wholes in zip(groups, joined, strict=True)]


def _joined(groups: list[list[Span]], wholes: Iterator[Span], max_tokens: int) -> list[Span]:
    """A group stays apart when its tokens turned out to be more than the sum of its parts."""
    result: list[Span] = []
    for group in groups:
        whole = next(wholes) if len(group) > 1 else group[0]
        result += [whole] if whole.tokens <= max_tokens else group
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
