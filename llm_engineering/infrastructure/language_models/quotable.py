"""The sentences of a passage that can be quoted: whole ones, of prose, that are no citation of someone else."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.citation_format import CITATION
from llm_engineering.domain.prompts import QUOTED_START
from llm_engineering.domain.prose import Sentence, content_words, sentences

LEAD_DECAY = 0.8  # a heading or question lends its words to the two sentences below it: 0.8 and 0.64 of their weight
LEAD_REACH = 2  # sentences below a heading or question
MIN_WORDS, MAX_CHARACTERS, MAX_LIST_CHARACTERS = 4, 400, 700
MAX_GAP = 100  # characters, all of them white space, between a sentence and the list that it announces
MAX_CAPITALISED = 0.7  # share of words with a capital; more is a headline, a reference or a list of names

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_MARK = r"(?:\\?[-*+>]|\d{1,2}\\?[.)])\s+"
_BULLET = re.compile(rf"^{_MARK}")
_LIST = re.compile(rf"(?:^[ \t]*{_MARK}\S.*(?:\n(?![ \t]*(?:{_MARK}|\n|#|\||```)).+)*\n*)+", re.MULTILINE)
_LEAD_IN = re.compile(
    r":[*_]*$|\b(?:these|following|below)\b(?:(?!\b(?:these|following|below)\b)[^.!?])*[.:][*_]*$", re.IGNORECASE
)
_QUESTION_END = re.compile(r"[?؟？][\"'”’»)\]*_]*$")  # noqa: RUF001
_CODE = re.compile(
    r"^(?:def|class|import|return|async|func|function|const|let|var|public)\s|^from\s\S+\simport|[{};]$|->|==|(?:\b\w+:\s+\S+\s+){2}"
)
_CAPTION = re.compile(r"\[(?:image|figure|photo|source)\b", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*\*|\"{3}|(?<!\w)__?(?=\w)|(?<=[\w.!?])__?(?!\w)")
_ESCAPED = re.compile(r"\\([-.*_#>+!()\[\]])")
_ADDRESS = re.compile(r"\]\([^)]{0,400}\)|https?://\S+")
_CITED = re.compile(CITATION)


class QuotableSentence(NamedTuple):
    """A sentence as it is quoted, and what the heading or question above it lends to it."""

    text: str
    passage: int
    place: int
    words: frozenset[str]
    lead: frozenset[str]
    lead_weight: float
    is_question: bool


def quotable_sentences(passage: Passage) -> Iterator[QuotableSentence]:
    """Whole sentences of prose: no code, table, heading, marked instruction, or sentence with citations of its own.
    What announces a list comes with it, or not at all."""
    text = passage.text
    code = [match.span() for match in _FENCED.finditer(text)][::-1]  # the next one last
    lists = [match.span() for match in _LIST.finditer(text)]
    lead, below = frozenset(stems(" ".join((passage.chunk.title, *passage.chunk.headings)))), 0
    for sentence in sentences(text):
        while code and code[-1][1] <= sentence.start:
            code.pop()
        if code and code[-1][0] < sentence.end:
            continue
        is_question = bool(_QUESTION_END.search(sentence.text))
        plain = _announced(text, sentence, lists) if _LEAD_IN.search(sentence.text) else _plain(sentence.text)
        words = frozenset(stems(plain))
        if plain and _is_prose(sentence.text, plain):
            below += 1
            lead_weight = LEAD_DECAY**below if below <= LEAD_REACH else 0.0
            yield QuotableSentence(plain, passage.number, sentence.start, words, lead, lead_weight, is_question)
        if is_question or sentence.text.startswith("#"):
            lead, below = frozenset(stems(sentence.text)), 0


def _announced(text: str, sentence: Sentence, lists: list[tuple[int, int]]) -> str:
    """The sentence and the items below it, as many as fit; "" where it announces what cannot be quoted."""
    for start, end in lists[(at := bisect_left(lists, (sentence.end, 0))) : at + 1]:
        if start <= sentence.end + MAX_GAP and not text[sentence.end : start].strip():
            items = re.split(rf"\n(?=[ \t]*{_MARK})", text[start : min(end, start + 2 * MAX_LIST_CHARACTERS)])
            lengths = accumulate(map(len, items), initial=len(sentence.text))
            kept = [item for item, size in zip(items, list(lengths)[1:], strict=True) if size <= MAX_LIST_CHARACTERS]
            return _plain("\n".join((sentence.text, *kept))) if kept else ""
    return "" if sentence.text.rstrip("*_").endswith(":") else _plain(sentence.text)


def _plain(text: str) -> str:
    """On one line, without marks of emphasis, escapes and its own bullet."""
    return " ".join(_ESCAPED.sub(r"\1", _EMPHASIS.sub("", _BULLET.sub("", text))).split())


def _is_prose(text: str, plain: str) -> bool:
    if text.startswith(("#", "|", "!", "<", "(image")) or QUOTED_START in plain or _CITED.search(plain):
        return False
    if "\n\n" in text or text.count("|") > 1 or not re.search(r"[.!?…。！？:؟।][\"'”’»)\]*_]*$", text):  # noqa: RUF001
        return False
    if len(text) > MAX_CHARACTERS or _CODE.search(plain) or _CAPTION.search(plain):
        return False
    bare = _ADDRESS.sub("", plain)
    words = bare.split()
    letters = sum(character.isalpha() or character.isspace() for character in bare)
    long_enough = len(words) >= MIN_WORDS or (not bare.isascii() and letters >= 12)
    headline = len(words) > MIN_WORDS and sum(w[0].isupper() for w in words) > MAX_CAPITALISED * len(words)
    return long_enough and not headline and letters >= 0.8 * len(bare) and len(bare) >= 0.5 * len(plain)


def stems(text: str) -> set[str]:
    return {word.stem for word in content_words(text)}
