# ruff: noqa: RUF001
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
from llm_engineering.domain.prose import SENTENCE_END, content_words, sentences

SUPPORT = 0.5  # share of a claim's content words that the passage must hold in one place
NEIGHBOURS = 3  # sentences of a passage that may support one claim together
FEWEST_WORDS = 2  # a claim with less is supported by its words alone when all of them are there
LONGEST_HELD = 2_000  # characters held back while no sentence ends
LARGEST_RANGE = 50  # [1-50]: more is no citation

MARKER = re.compile(r"[ \t]?[\[【](\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*)[\]】](?!\()")
_QUOTED = re.compile(r"[\"“«„]([^\"“”«»„]{3,}?)[\"”»“]")
_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE = re.compile(r"`[^`\n]+`")
_STARTED_MARKER = re.compile(r"[\[【][\d\s,;–-]*$")


class Checked(NamedTuple):
    """A sentence without the citations that could not be verified, and those that could."""

    text: str
    citations: tuple[Citation, ...]
    removed: int


def cited_numbers(inside: str) -> list[int]:
    """`1, 3-5` -> 1, 3, 4, 5, each once. A range that runs backwards or beyond all reason is its two ends."""
    numbers: list[int] = []
    for part in re.split(r"[,;]", inside):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        whole = len(ends) == 2 and ends[0] <= ends[1] < ends[0] + LARGEST_RANGE
        numbers += range(ends[0], ends[1] + 1) if whole else ends
    return list(dict.fromkeys(numbers))


def check_sentence(sentence: str, passages: Sequence[Passage]) -> Checked:
    """Keep the citations that hold, each as `[n]`; remove and count the others. Code is left alone."""
    by_number = {passage.number: passage for passage in passages}
    code = [match.span() for match in _CODE.finditer(sentence)]
    markers = [m for m in MARKER.finditer(sentence) if not any(start <= m.start() < end for start, end in code)]
    whole = _without(sentence, markers)
    pieces, citations, removed, at, clause_from = [], [], 0, 0, 0
    for marker in markers:
        pieces.append(sentence[at : marker.start()])
        clause = MARKER.sub("", sentence[clause_from : marker.start()])
        kept = []
        for number in cited_numbers(marker.group(1)):
            found = _supporting(by_number.get(number), clause, whole)
            if found is None:
                removed += 1
            else:
                kept.append(f"[{number}]")
                citations.append(found)
        space = marker.group()[: len(marker.group()) - len(marker.group().lstrip())]
        pieces.append(space + "".join(kept) if kept else "")
        at = marker.end()
        if clause.strip(" \t.,;"):
            clause_from = marker.end()
    return Checked("".join((*pieces, sentence[at:])), tuple(dict.fromkeys(citations)), removed)


def support(claim: str, passage: Passage) -> tuple[float, int, int]:
    """How much of the claim the passage holds (0 to 1), and where: offsets into `passage.text`."""
    if exact := _exactly(claim, passage.text):
        return 1.0, *exact
    for quotation in _QUOTED.findall(claim):
        if len(quotation.split()) >= 3 and (exact := _exactly(quotation, passage.text)):
            return 1.0, *exact
    wanted = {word.stem for word in content_words(claim)}
    if not wanted:
        return 0.0, 0, 0
    best = (0.0, 0, 0)
    for start, end, stems in _windows(passage.text):
        share = len(wanted & stems) / len(wanted)
        if share > best[0] or (share == best[0] > 0 and end - start < best[2] - best[1]):
            best = (share, start, end)
    needed = 1.0 if len(wanted) <= FEWEST_WORDS else 0.0
    return best if best[0] >= needed else (0.0, 0, 0)


def _supporting(passage: Passage | None, clause: str, whole: str) -> Citation | None:
    """The clause before a marker is what it stands for; where that says next to nothing, the whole sentence is."""
    if passage is None:
        return None
    says_something = len({word.stem for word in content_words(clause)}) > FEWEST_WORDS
    share, start, end = support(clause if says_something else whole, passage)
    if share < SUPPORT:
        return None
    return Citation(passage=passage.number, quote=passage.text[start:end], start=start, end=end)


def _without(sentence: str, markers: list[re.Match[str]]) -> str:
    for marker in reversed(markers):
        sentence = sentence[: marker.start()] + sentence[marker.end() :]
    return sentence


def _exactly(claim: str, text: str) -> tuple[int, int] | None:
    """Where the claim stands word for word; case, white space, and the shape of quotes and dashes do not matter."""
    words = re.findall(r"\w+", claim)
    if len(words) < 3:
        return None
    found = re.search(r"\b" + r"\W+".join(map(re.escape, words)) + r"\b", text, re.IGNORECASE)
    return (found.start(), found.end()) if found else None


@lru_cache(maxsize=256)
def _windows(text: str) -> tuple[tuple[int, int, frozenset[str]], ...]:
    parts = [(one.start, one.end, {word.stem for word in content_words(one.text)}) for one in sentences(text)]
    found = []
    for size in range(1, NEIGHBOURS + 1):
        for at in range(len(parts) - size + 1):
            group = parts[at : at + size]
            found.append((group[0][0], group[-1][1], frozenset().union(*(stems for *_, stems in group))))
    return tuple(found)


class CitationChecker:
    """Takes an answer in pieces of any size and gives it back sentence by sentence, checked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self._held = ""
        self._in_fence = False
        self.citations: list[Citation] = []
        self.removed = 0

    def feed(self, piece: str) -> Iterator[str]:
        """The sentences that are whole now."""
        self._held += piece
        while (cut := self._cut()) is not None:
            ready, self._held = self._held[:cut], self._held[cut:]
            yield self._checked(ready)

    def finish(self) -> Iterator[str]:
        """What is left; the answer has ended."""
        if self._held:
            ready, self._held = self._held, ""
            yield self._checked(ready)

    def _cut(self) -> int | None:
        """Where the first whole sentence ends, its citations and the white space after it included."""
        line_end = self._held.find("\n")
        if self._in_fence or _FENCE.match(self._held):
            return line_end + 1 if line_end >= 0 else None
        ends = [match.end() for match in SENTENCE_END.finditer(self._held)]
        for end in sorted({*ends, *([line_end] if line_end >= 0 else [])}):
            rest = self._held[end:]
            tail = re.match(r"(?:\s*[\[【]\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*[\]】])*[.!?]*\s*", rest)
            after = rest[tail.end() :]
            if after and not _STARTED_MARKER.match(after):
                return end + tail.end()
        if len(self._held) > LONGEST_HELD:
            return self._held.rfind(" ", 0, LONGEST_HELD) + 1 or LONGEST_HELD
        return None

    def _checked(self, text: str) -> str:
        if _FENCE.match(text):
            self._in_fence = not self._in_fence
            return text
        if self._in_fence:
            return text
        checked = check_sentence(text, self._passages)
        self.citations += [one for one in checked.citations if one not in self.citations]
        self.removed += checked.removed
        return checked.text
