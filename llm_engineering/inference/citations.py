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
_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE = re.compile(r"`[^`\n]+`")


class CheckedSentence(NamedTuple):
    """A sentence without the citations that could not be verified, and those that could."""

    text: str
    citations: tuple[Citation, ...]
    removed: int


def check_sentence(sentence: str, passages: Sequence[Passage]) -> CheckedSentence:
    """Keep the citations that hold, in the form of `cite`; remove and count the others. Code is left alone."""
    by_number = {passage.number: passage for passage in passages}
    code = [match.span() for match in _CODE.finditer(sentence)]
    markers = [m for m in _CITATION.finditer(sentence) if not any(start <= m.start() < end for start, end in code)]
    whole = _without_spans(sentence, [marker.span() for marker in markers])
    pieces: list[str] = []
    citations: list[Citation] = []
    removed, at, clause_start = 0, 0, 0
    for marker in markers:
        clause = _CITATION.sub("", sentence[clause_start : marker.start()])
        numbers = cited_numbers(marker.group())
        found = [one for number in numbers if (one := _supporting(by_number.get(number), clause, whole))]
        citations += found
        removed += len(numbers) - len(found)
        pieces.append(sentence[at : marker.start()])
        pieces += [marker["space"], *(cite(one.passage) for one in found)] if found else []
        at = marker.end()
        if clause.strip(" \t.,;"):
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


def _supporting(passage: Passage | None, clause: str, whole: str) -> Citation | None:
    """The clause before a marker is what it stands for; where that says next to nothing, the whole sentence is."""
    if passage is None:
        return None
    says_something = len({word.stem for word in content_words(clause)}) > SHORT_CLAIM
    share, start, end = support(clause if says_something else whole, passage)
    if share < SUPPORT:
        return None
    return Citation(passage=passage.number, quote=passage.text[start:end], start=start, end=end)


def _without_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + text[end:]
    return text


def _find_verbatim(claim: str, text: str) -> tuple[int, int] | None:
    """Where the claim stands word for word; case, white space, and the shape of quotes and dashes do not matter."""
    words = re.findall(r"\w+", claim)
    if len(words) < 3:
        return None
    found = re.search(r"\b" + r"\W+".join(map(re.escape, words)) + r"\b", text, re.IGNORECASE)
    return (found.start(), found.end()) if found else None


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
        self.citations: list[Citation] = []
        self.removed = 0

    def feed(self, piece: str) -> Iterator[str]:
        """The sentences that are whole now."""
        self._buffer += piece
        while (end := self._first_sentence_end()) is not None:
            ready, self._buffer = self._buffer[:end], self._buffer[end:]
            yield self._check(ready)

    def finish(self) -> Iterator[str]:
        """What is left; the answer has ended."""
        if self._buffer:
            ready, self._buffer = self._buffer, ""
            yield self._check(ready)

    def _first_sentence_end(self) -> int | None:
        """Where the first whole sentence ends, its citations and the white space after it included."""
        line_end = self._buffer.find("\n")
        if self._in_fence or _FENCE.match(self._buffer):
            return line_end + 1 if line_end >= 0 else None
        ends = [match.end() for match in SENTENCE_END.finditer(self._buffer)]
        for end in sorted({*ends, *([line_end] if line_end >= 0 else [])}):
            tail = _SENTENCE_TAIL.match(self._buffer, end)
            end = tail.end() if tail else end
            after = self._buffer[end:]
            if after and not _STARTED_CITATION.match(after):
                return end
        if len(self._buffer) > MAX_BUFFER:
            return self._buffer.rfind(" ", 0, MAX_BUFFER) + 1 or MAX_BUFFER
        return None

    def _check(self, text: str) -> str:
        if _FENCE.match(text):
            self._in_fence = not self._in_fence
            return text
        if self._in_fence:
            return text
        checked = check_sentence(text, self._passages)
        self.citations += [one for one in checked.citations if one not in self.citations]
        self.removed += checked.removed
        return checked.text
