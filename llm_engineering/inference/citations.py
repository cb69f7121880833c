"""Every citation of an answer is checked against the passage it names, before anybody reads it.

A sentence may cite a passage when a quotation in it stands there word for word, or when enough of its content words
(stems, without stop words) stand together in up to three neighbouring sentences of the passage. See docs/ask.md for
how the threshold was measured.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from llm_engineering.domain.answers import Citation, Passage
from llm_engineering.domain.citation_format import CITATION, STARTED_CITATION, cite, cited_numbers
from llm_engineering.domain.prose import SENTENCE_END, content_words, sentences

SUPPORT = 0.5  # share of a claim's content words that the passage must hold in one place
MAX_WINDOW = 3  # neighbouring sentences of a passage that may support one claim together
SHORT_CLAIM = 2  # content words; a claim with so few is supported only when all of them are there
MAX_BUFFER = 2_000  # characters held back while no sentence ends

_CITATION = re.compile(rf"(?P<space>[ \t]?){CITATION}(?!\()")  # [1](https://…) is a link
_SENTENCE_TAIL = re.compile(rf"(?:\s*{CITATION})*[.!?]*\s*")
_STARTED_CITATION = re.compile(STARTED_CITATION)
_QUOTED = re.compile(r"[\"“«„]([^\"“”«»„]{3,}?)[\"”»“]")
_FENCE = re.compile(r"\s*(```|~~~)")
_WORD = re.compile(r"\w+")
_CODE = re.compile(r"`[^`\n]+`")


class CheckedSentence(NamedTuple):
    """A sentence without the citations that could not be verified, and those that could."""

    text: str
    citations: tuple[Citation, ...]
    removed: int


def check_sentence(sentence: str, passages: Sequence[Passage]) -> CheckedSentence:
    """Keep the citations that hold, in the form of `cite`; remove and count the others. Code is left alone."""
    supporting = _Supporting(passages)
    markers = _markers(sentence)
    whole = _without_spans(sentence, [marker.span() for marker in markers])
    pieces: list[str] = []
    citations: list[Citation] = []
    removed, at, clause_start = 0, 0, 0
    for marker in markers:
        clause = _CITATION.sub("", sentence[clause_start : marker.start()])
        numbers = cited_numbers(marker.group())
        found = [one for number in numbers if (one := supporting(number, clause, whole))]
        citations += found
        removed += len(numbers) - len(found)
        pieces.append(sentence[at : marker.start()])
        pieces += [marker["space"], *(cite(one.passage) for one in found)] if found else []
        at = marker.end()
        clause_start = marker.end()
    return CheckedSentence("".join((*pieces, sentence[at:])), tuple(dict.fromkeys(citations)), removed)


def support(claim: str, passage: Passage) -> tuple[float, int, int]:
    """How much of the claim the passage holds (0 to 1), and where: offsets into `passage.text`."""
    if exact := _find_verbatim(claim, passage.text):
        return 1.0, *exact
    for quotation in _QUOTED.findall(claim):
        if len(quotation.split()) >= 3 and (exact := _find_verbatim(quotation, passage.text)):
            return 1.0, *exact
    stems_of_claim = {word.stem for word in content_words(claim)}
    if not stems_of_claim:
        return 0.0, 0, 0
    best = (0.0, 0, 0)
    for start, end, stems in _sentence_windows(passage.text):
        share = len(stems_of_claim & stems) / len(stems_of_claim)
        if share > best[0] or (share == best[0] > 0 and end - start < best[2] - best[1]):
            best = (share, start, end)
    needed = 1.0 if len(stems_of_claim) <= SHORT_CLAIM else 0.0
    return best if best[0] >= needed else (0.0, 0, 0)


class _Supporting:
    """The clause before a marker is what it stands for; where that says next to nothing, the whole sentence is.

    What was looked for in a passage once is not looked for again: a sentence may cite one a thousand times."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = {passage.number: passage for passage in passages}
        self._known: dict[tuple[int, str], Citation | None] = {}

    def __call__(self, number: int, clause: str, whole: str) -> Citation | None:
        if (passage := self._passages.get(number)) is None:
            return None
        says_something = len({word.stem for word in content_words(clause)}) > SHORT_CLAIM
        key = number, clause if says_something else whole
        if key not in self._known:
            share, start, end = support(key[1], passage)
            quote = passage.text[start:end]
            found = Citation(passage=number, quote=quote, start=start, end=end) if share >= SUPPORT else None
            self._known[key] = found
        return self._known[key]


def _markers(sentence: str) -> list[re.Match[str]]:
    """The citations outside of code."""
    code = [match.span() for match in _CODE.finditer(sentence)]
    found, at = [], 0
    for marker in _CITATION.finditer(sentence):
        while at < len(code) and code[at][1] <= marker.start():
            at += 1
        if at == len(code) or marker.start() < code[at][0]:
            found.append(marker)
    return found


def _without_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    return "".join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _find_verbatim(claim: str, text: str) -> tuple[int, int] | None:
    """Where the claim stands word for word; case, white space, and the shape of quotes and dashes do not matter."""
    words = _WORD.findall(claim)
    if len(words) < 3:
        return None
    spoken, places = _spoken(text)
    at = spoken.find(f" {' '.join(words).lower()} ")
    if at < 0:
        return None
    first = spoken.count(" ", 0, at)
    return places[first][0], places[first + len(words) - 1][1]


@lru_cache(maxsize=256)
def _spoken(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Its words in lower case, each between two spaces, and where each stands."""
    found = list(_WORD.finditer(text))
    return f" {' '.join(one.group().lower() for one in found)} ", tuple(one.span() for one in found)


@lru_cache(maxsize=256)
def _sentence_windows(text: str) -> tuple[tuple[int, int, frozenset[str]], ...]:
    parts = [(one.start, one.end, {word.stem for word in content_words(one.text)}) for one in sentences(text)]
    found = []
    for size in range(1, MAX_WINDOW + 1):
        for at in range(len(parts) - size + 1):
            group = parts[at : at + size]
            found.append((group[0][0], group[-1][1], frozenset().union(*(stems for *_, stems in group))))
    return tuple(found)


class CitationChecker:
    """Takes an answer in pieces of any size and gives it back sentence by sentence, checked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self._buffer = ""
        self._in_fence = False
        self._citations: dict[Citation, None] = {}
        self.removed = 0

    @property
    def citations(self) -> list[Citation]:
        """Those that held, each once."""
        return list(self._citations)

    def feed(self, piece: str) -> Iterator[str]:
        """The sentences that are whole now."""
        self._buffer += piece
        at = 0
        while (end := self._sentence_end(at)) is not None:
            ready, at = self._buffer[at:end], end
            yield self._check(ready)
        self._buffer = self._buffer[at:]

    def finish(self) -> Iterator[str]:
        """What is left; the answer has ended."""
        if self._buffer:
            ready, self._buffer = self._buffer, ""
            yield self._check(ready)

    def _sentence_end(self, at: int) -> int | None:
        """Where the first whole sentence from `at` on ends, its citations and the white space after it included."""
        text = self._buffer
        if self._in_fence or _FENCE.match(text, at, at + MAX_BUFFER):
            return text.find("\n", at) + 1 or None
        for end in self._ends(at):
            tail = _SENTENCE_TAIL.match(text, end, end + MAX_BUFFER)
            end = tail.end() if tail else end
            if end < len(text) and not _STARTED_CITATION.match(text, end):
                return end
        if len(text) - at > MAX_BUFFER:
            return text.rfind(" ", at, at + MAX_BUFFER) + 1 or at + MAX_BUFFER
        return None

    def _ends(self, at: int) -> Iterator[int]:
        """Of the sentences from `at` on, and then of the line; within MAX_BUFFER, for what is longer is cut anyway."""
        last = at + MAX_BUFFER
        line_end = self._buffer.find("\n", at, last)
        for match in SENTENCE_END.finditer(self._buffer, at, last if line_end < 0 else line_end + 1):
            if match.end() == last < len(self._buffer):
                break
            yield match.end()
        if line_end >= 0:
            yield line_end

    def _check(self, text: str) -> str:
        if _FENCE.match(text):
            self._in_fence = not self._in_fence
            return text
        if self._in_fence:
            return text
        checked = check_sentence(text, self._passages)
        self._citations |= dict.fromkeys(checked.citations)
        self.removed += checked.removed
        return checked.text
