"""Answering without a language model: the passages' sentences that come closest to the question, word for word."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llm_engineering.domain.answers import Passage, Usage
from llm_engineering.domain.ports import Embedder
from llm_engineering.domain.prompts import NO_ANSWER, QUOTED_START, Prompt
from llm_engineering.domain.prose import content_words, sentences

MOST_SENTENCES = 4
CLOSE_TO_BEST = 0.8  # a further sentence is quoted when its score is at least this share of the best one's
MOST_ALIKE = 0.6  # share of common words above which two sentences say the same
CANDIDATES = 12  # sentences that are embedded, the ones with most words of the question first
WORDS_COUNT = 0.35  # weight of shared words beside the cosine
FEWEST_WORDS, MOST_CHARACTERS = 5, 500

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_BULLET = re.compile(r"^(?:[-*+>]|\d+[.)])\s+")
_ADDRESS = re.compile(r"\]\([^)]*\)|https?://\S+")
_CITED = re.compile(r"\[\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\]")  # noqa: RUF001


class _Candidate(NamedTuple):
    text: str
    passage: int
    words: frozenset[str]
    shared: float  # of the question's content words
    place: int


class ExtractiveModel:
    """Quotes up to four sentences, each exactly as it stands in its passage, with the passage's number. The same
    question over the same passages gives the same answer. It writes nothing of its own, so it answers nothing but
    prompts with passages; without a sentence to quote it says that nothing was found."""

    name = "extractive"
    generative = False

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Usage]:
        """`max_tokens` bounds what is quoted; `temperature` changes nothing."""
        said: list[str] = []
        left = max_tokens
        for chosen in self._best(prompt.question, prompt.passages):
            if stop():
                return
            quotation = f"{' ' if said else ''}“{chosen.text}” [{chosen.passage}]"
            [tokens] = self._embedder.count_tokens([quotation])
            if said and tokens > left:
                break
            left -= tokens
            said.append(quotation)
            yield quotation
        if not said:
            said.append(NO_ANSWER)
            yield NO_ANSWER
        counts = self._embedder.count_tokens([prompt.question, *(one.text for one in prompt.passages), "".join(said)])
        yield Usage(prompt_tokens=sum(counts[:-1]), completion_tokens=counts[-1])

    def check(self) -> str:
        return f"extractive: quotes the best sentences, found with {self._embedder.spec.model_id}; no key, no model"

    def _best(self, question: str, passages: Sequence[Passage]) -> list[_Candidate]:
        import numpy as np

        wanted = frozenset(word.stem for word in content_words(question))
        candidates = [one for passage in passages for one in _quotable(passage, wanted)]
        candidates = sorted(candidates, key=lambda one: (-one.shared, one.passage, one.place))[:CANDIDATES]
        if not candidates:
            return []
        vectors = np.asarray(self._embedder.embed([question, *(one.text for one in candidates)]), np.float32)
        scores = vectors[1:] @ vectors[0] + WORDS_COUNT * np.array([one.shared for one in candidates], np.float32)
        order = sorted(range(len(candidates)), key=lambda at: (-round(float(scores[at]), 5), at))
        chosen: list[_Candidate] = []
        for at in order:
            if len(chosen) == MOST_SENTENCES or (chosen and scores[at] < CLOSE_TO_BEST * scores[order[0]]):
                break
            if not any(_alike(candidates[at].words, one.words) for one in chosen):
                chosen.append(candidates[at])
        return chosen


def _quotable(passage: Passage, wanted: frozenset[str]) -> Iterator[_Candidate]:
    """Whole sentences of prose: no code, table, heading, marked instruction, or sentence with citations of its own."""
    code = [match.span() for match in _FENCED.finditer(passage.text)]
    for sentence in sentences(passage.text):
        if any(start < sentence.end and sentence.start < end for start, end in code):
            continue
        text = _BULLET.sub("", sentence.text)
        if not _is_prose(text):
            continue
        words = frozenset(word.stem for word in content_words(text))
        shared = len(words & wanted) / len(wanted) if wanted else 0.0
        yield _Candidate(text, passage.number, words, shared, sentence.start)


def _is_prose(text: str) -> bool:
    if text.startswith(("#", "|", "!", "<", "(image")) or QUOTED_START in text or _CITED.search(text):
        return False
    if len(text) > MOST_CHARACTERS or "\n\n" in text or not re.search(r"[.!?…。！？:؟।][\"'”’»)\]*_]*$", text):  # noqa: RUF001
        return False
    bare = _ADDRESS.sub("", text)
    letters = sum(character.isalpha() or character.isspace() for character in bare)
    long_enough = len(bare.split()) >= FEWEST_WORDS or (not bare.isascii() and letters >= 12)
    return long_enough and letters >= 0.8 * len(bare) and len(bare) >= 0.5 * len(text)


def _alike(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) > MOST_ALIKE * max(1, min(len(a), len(b)))
