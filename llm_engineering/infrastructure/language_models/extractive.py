"""Answering without a language model: the passages' sentences that come closest to the question, word for word."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import log
from typing import NamedTuple

from llm_engineering.domain.answers import Passage, Usage
from llm_engineering.domain.ports import Embedder
from llm_engineering.domain.prompts import NO_ANSWER, QUOTED_START, Prompt
from llm_engineering.domain.prose import Sentence, content_words, sentences

MOST_SENTENCES = 4
SECOND, FURTHER, ELSEWHERE = 0.5, 0.75, 0.85  # share of the best score a next sentence needs; in another passage
MOST_ALIKE = 0.6  # share of common words above which two sentences say the same
CANDIDATES = 12  # sentences that are embedded, the ones with most words of the question first
WORDS_COUNT = 0.35  # weight of shared words beside the cosine
RANK_COUNTS = 0.1  # of the first passage, half of it of the second, and so on
LEAD_FADES = 0.8  # a heading or question lends its words to the two sentences below it: 0.8 and 0.64 of their weight
LEADS = 2
DEFINES = 0.15  # for a sentence that begins with what is asked for and says what it is
ABOUT_ITSELF = 0.1  # taken off "in this article, we introduced …": it announces an answer
FRAGMENT, LEANING = 0.15, 0.05  # taken off what begins in the middle, and what points at the sentence before
FEWEST_WORDS, MOST_CHARACTERS, MOST_LISTED = 4, 400, 700
MOST_CAPITALS = 0.7  # share of words with a capital; more is a headline, a reference or a list of names

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_MARK = r"(?:\\?[-*+>]|\d{1,2}\\?[.)])\s+"
_BULLET = re.compile(rf"^{_MARK}")
_LIST = re.compile(rf"(?:^[ \t]*{_MARK}\S.*(?:\n(?![ \t]*(?:{_MARK}|\n|#|\||```)).+)*\n*)+", re.MULTILINE)
_LEAD_IN = re.compile(r":[*_]*$|\b(?:these|following|below)\b[^.!?]*[.:][*_]*$", re.IGNORECASE)
_ASKS = re.compile(r"[?؟？][\"'”’»)\]*_]*$")  # noqa: RUF001
_CODE = re.compile(
    r"^(?:def|class|import|return|async|func|function|const|let|var|public)\s|^from\s\S+\simport|[{};]$|->|==|(?:\b\w+:\s+\S+\s+){2}"
)
_LEANS = re.compile(r"(?:it|its|this|that|these|those|they|he|she|but|and|so|or|because)\b", re.IGNORECASE)
_IS = re.compile(r"\b(?:is|are|was|were|means|refers?\s+to|stands?\s+for|ist|sind|est|sont)\b", re.IGNORECASE)
_ITSELF = re.compile(
    r"\b(?:this|these|previous|next|my)\s+(?:\w+\s+)?(?:articles?|posts?|lessons?|tutorials?|sections?|courses?|chapters?|"
    r"books?|newsletters?|series)\b|\blesson\s+\d",
    re.IGNORECASE,
)
_CAPTION = re.compile(r"\[(?:image|figure|photo|source)\b", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*\*|\"{3}|(?<!\w)__?(?=\w)|(?<=[\w.!?])__?(?!\w)")
_ESCAPED = re.compile(r"\\([-.*_#>+!()\[\]])")
_ADDRESS = re.compile(r"\]\([^)]*\)|https?://\S+")
_CITED = re.compile(r"\[\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\]")  # noqa: RUF001


class _Line(NamedTuple):
    """A sentence as it is quoted, and what the heading or question above it lends to it."""

    text: str
    passage: int
    place: int
    words: frozenset[str]
    lead: frozenset[str]
    fades: float
    asks: bool


class ExtractiveModel:
    """Quotes up to four sentences (or a list under the sentence that announces it), each in the words of its passage,
    with the passage's number, in the order of the passage. A question is no answer: one is quoted only where nothing
    else stands. The same question over the same passages gives the same answer. It writes nothing of its own, so it
    answers nothing but prompts with passages; without a sentence to quote it says that nothing was found."""

    name = "extractive"
    generative = False

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Usage]:
        """`max_tokens` bounds what is quoted; `temperature` changes nothing."""
        said: list[str] = []
        for chosen in self._fitting(self._best(prompt.query or prompt.question, prompt.passages), max_tokens):
            if stop():
                return
            said.append(f"{' ' if said else ''}{_quotation(chosen)}")
            yield said[-1]
        if not said:
            said.append(NO_ANSWER)
            yield NO_ANSWER
        counts = self._embedder.count_tokens([prompt.question, *(one.text for one in prompt.passages), "".join(said)])
        yield Usage(prompt_tokens=sum(counts[:-1]), completion_tokens=counts[-1])

    def check(self) -> str:
        return f"extractive: quotes the best sentences, found with {self._embedder.spec.model_id}; no key, no model"

    def _fitting(self, best: Sequence[_Line], most: int) -> list[_Line]:
        """Of the best first as many as fit, the first always; then as one reads: passage by passage, each in order."""
        sizes = self._embedder.count_tokens([_quotation(one) for one in best]) if best else []
        totals = list(accumulate(sizes))
        kept = [one for one, total in zip(best, totals, strict=True) if one is best[0] or total <= most]
        passages = list(dict.fromkeys(one.passage for one in kept))
        return sorted(kept, key=lambda one: (passages.index(one.passage), one.place))

    def _best(self, question: str, passages: Sequence[Passage]) -> list[_Line]:
        """Best first."""
        import numpy as np

        lines = [line for passage in passages for line in _lines(passage)]
        lines = [line for line in lines if not line.asks] or lines
        if not lines:
            return []
        shares = _shares(question, lines)
        order = sorted(range(len(lines)), key=lambda at: (-shares[at], at))[:CANDIDATES]
        vectors = np.asarray(self._embedder.embed([question, *(lines[at].text for at in order)]), np.float32)
        cosines = dict(zip(order, vectors[1:] @ vectors[0], strict=True))
        wanted = _stems(question)
        scores = {at: float(cosines[at]) + WORDS_COUNT * shares[at] + _worth(lines[at], wanted) for at in order}
        chosen: list[_Line] = []
        ranked = sorted(order, key=lambda at: (-round(scores[at], 5), at))
        for at in ranked:
            if len(chosen) == MOST_SENTENCES:
                break
            least = SECOND if len(chosen) == 1 else FURTHER
            if chosen and lines[at].passage not in {one.passage for one in chosen}:
                least = ELSEWHERE
            close = not chosen or scores[at] >= least * scores[ranked[0]]
            if close and not any(_alike(lines[at].words, one.words) for one in chosen):
                chosen.append(lines[at])
        return chosen


def _stems(text: str) -> set[str]:
    return {word.stem for word in content_words(text)}


def _quotation(line: _Line) -> str:
    return f"“{line.text}” [{line.passage}]"


def _shares(question: str, lines: Sequence[_Line]) -> list[float]:
    """How much of the question each line holds, or is lent: of its words, rare ones count more
    (idf; Spärck Jones, 1972)."""
    wanted = _stems(question)
    seen = Counter(word for line in lines for word in line.words & wanted)
    weights = {word: log(1 + len(lines) / (1 + seen[word])) for word in wanted}
    whole = sum(weights.values()) or 1.0

    def share(words: frozenset[str]) -> float:
        return sum(weights[word] for word in words & wanted) / whole

    return [max(share(line.words), line.fades * share(line.lead)) for line in lines]


def _worth(line: _Line, wanted: set[str]) -> float:
    """What the passage's rank and a definition add, and what a sentence loses that does not stand alone."""
    worth = RANK_COUNTS / line.passage
    if wanted and (says := _IS.search(line.text)) and wanted <= _stems(line.text[: says.start()]):
        worth += DEFINES
    if _ITSELF.search(line.text):
        worth -= ABOUT_ITSELF
    torn = line.text.count("“") != line.text.count("”") or line.text.count("(") != line.text.count(")")
    if torn or line.text[0].islower() or line.text.startswith(("...", "…")):
        worth -= FRAGMENT
    return worth - LEANING if _LEANS.match(line.text) else worth


def _lines(passage: Passage) -> Iterator[_Line]:
    """Whole sentences of prose: no code, table, heading, marked instruction, or sentence with citations of its own.
    What announces a list comes with it, or not at all."""
    text = passage.text
    code = [match.span() for match in _FENCED.finditer(text)]
    lists = {match.start(): match.end() for match in _LIST.finditer(text)}
    lead, since = frozenset(_stems(" ".join((passage.chunk.title, *passage.chunk.headings)))), 0
    for sentence in sentences(text):
        if any(start < sentence.end and sentence.start < end for start, end in code):
            continue
        asks = bool(_ASKS.search(sentence.text))
        plain = _announced(text, sentence, lists) if _LEAD_IN.search(sentence.text) else _plain(sentence.text)
        words = frozenset(_stems(plain))
        if plain and _is_prose(sentence.text, plain):
            since += 1
            fades = LEAD_FADES**since if since <= LEADS else 0.0
            yield _Line(plain, passage.number, sentence.start, words, lead, fades, asks)
        if asks or sentence.text.startswith("#"):
            lead, since = frozenset(_stems(sentence.text)), 0


def _announced(text: str, sentence: Sentence, lists: dict[int, int]) -> str:
    """The sentence and the items below it, as many as fit; "" where it announces what cannot be quoted."""
    for start, end in lists.items():
        if sentence.end <= start and not text[sentence.end : start].strip():
            items = re.split(rf"\n(?=[ \t]*{_MARK})", text[start:end])
            lengths = accumulate(map(len, items), initial=len(sentence.text))
            kept = [item for item, size in zip(items, list(lengths)[1:], strict=True) if size <= MOST_LISTED]
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
    if len(text) > MOST_CHARACTERS or _CODE.search(plain) or _CAPTION.search(plain):
        return False
    bare = _ADDRESS.sub("", plain)
    words = bare.split()
    letters = sum(character.isalpha() or character.isspace() for character in bare)
    long_enough = len(words) >= FEWEST_WORDS or (not bare.isascii() and letters >= 12)
    headline = len(words) > FEWEST_WORDS and sum(w[0].isupper() for w in words) > MOST_CAPITALS * len(words)
    return long_enough and not headline and letters >= 0.8 * len(bare) and len(bare) >= 0.5 * len(plain)


def _alike(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) > MOST_ALIKE * max(1, min(len(a), len(b)))
