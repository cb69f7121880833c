# ruff: noqa: RUF001
"""Sentences and content words, the same for who quotes them and for who checks the quotation."""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: one word per character

SENTENCE_END = re.compile(
    r"(?:(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bcf)(?<!\bFig)(?<!\bal)(?<!\s[A-Z])"
    r"(?<![.!?…؟।]{2})[.!?…؟।]++[\"'”’»)\]*_]*+(?=\s|$))|[。！？]+[”’」』]*"  # not tried again inside a run of signs
)
LONGEST_WORD = 100  # characters; a blob of a megabyte is no word, and must not be kept in a cache
_BLOCK = re.compile(r"\n[ \t]*(?=\n|[-*+|>#]|\d+[.)]\s|```|~~~)|\n[ \t]*\n")
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:[’'][^\W\d_{CJK}]+)?")
_STOPWORDS = frozenset(
    """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing don down during each even few for from further get had has have having he her
    here hers him his how i if in into is it its just let like may me might more most much must my no nor not now
    of off on once only or other our out over own per s same say says she should so some such t than that the
    their them then there these they this those through to too under until up us use used uses using very via was
    we were what when where which while who whom why will with within without would you your
    """.split()  # noqa: SIM905
)


class Sentence(NamedTuple):
    """`text` is exactly the slice `[start:end]` of the text it was found in."""

    text: str
    start: int
    end: int


class Word(NamedTuple):
    """`stem` is lower case and, for English, without its ending."""

    stem: str
    start: int
    end: int


def sentences(text: str) -> Iterator[Sentence]:
    """In order, without white space around them. Headings, list items and table rows stand for themselves."""
    at = 0
    for cut in (*_cuts(text), len(text)):
        raw = text[at:cut]
        if part := raw.strip():
            start = at + len(raw) - len(raw.lstrip())
            yield Sentence(part, start, start + len(part))
        at = cut


def _cuts(text: str) -> list[int]:
    ends = {match.end() for match in SENTENCE_END.finditer(text)}
    return sorted(ends | {match.start() for match in _BLOCK.finditer(text)})


def content_words(text: str) -> Iterator[Word]:
    """The words that carry meaning, in order, with their places; English stop words are left out."""
    for match in _WORD.finditer(text):
        word = match.group().lower()
        word = re.split("[’']", word)[0] if word.isascii() or "’" in word else word
        if word and word not in _STOPWORDS and (len(word) > 1 or not word.isascii() or word.isdigit()):
            yield Word(stem(word), match.start(), match.end())


def stem(word: str) -> str:
    """Of an English word in lower case (Snowball); others stay as they are, mostly, and so do blobs."""
    return _stem(word) if len(word) <= LONGEST_WORD else word


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer().stem_word(word)


@cache
def _stemmer():
    from py_rust_stemmers import SnowballStemmer  # ty: ignore[missing-module-member]  # compiled, without stubs

    return SnowballStemmer("english")
