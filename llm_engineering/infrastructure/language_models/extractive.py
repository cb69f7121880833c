"""Answering without a language model: the passages' sentences that come closest to the question, word for word."""

import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from itertools import accumulate
from math import log

from llm_engineering.domain.answers import Passage, Usage
from llm_engineering.domain.citation_format import cite
from llm_engineering.domain.ports import Embedder
from llm_engineering.domain.prompts import NO_ANSWER, Prompt
from llm_engineering.infrastructure.language_models.quotable import QuotableSentence, quotable_sentences, stems

MAX_SENTENCES = 4
# share of the best score that the second sentence needs, a further one, and one of another passage
MIN_SECOND_SCORE, MIN_FURTHER_SCORE, MIN_OTHER_PASSAGE_SCORE = 0.5, 0.75, 0.85
MAX_SIMILARITY = 0.6  # share of common words above which two sentences say the same
MAX_CANDIDATES = 12  # sentences that are embedded, the ones with most words of the question first
WORD_OVERLAP_WEIGHT = 0.35  # weight of shared words beside the cosine
RANK_WEIGHT = 0.1  # of the first passage, half of it of the second, and so on
DEFINITION_BONUS = 0.15  # for a sentence that begins with what is asked for and says what it is
SELF_REFERENCE_PENALTY = 0.1  # taken off "in this article, we introduced …": it announces an answer
FRAGMENT_PENALTY = 0.15  # taken off what begins in the middle
DEPENDENT_PENALTY = 0.05  # taken off what points at the sentence before

_DEPENDENT = re.compile(r"(?:it|its|this|that|these|those|they|he|she|but|and|so|or|because)\b", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are|was|were|means|refers?\s+to|stands?\s+for|ist|sind|est|sont)\b", re.IGNORECASE)
_SELF_REFERENCE = re.compile(
    r"\b(?:this|these|previous|next|my)\s+(?:\w+\s+)?(?:articles?|posts?|lessons?|tutorials?|sections?|courses?|chapters?|"
    r"books?|newsletters?|series)\b|\blesson\s+\d",
    re.IGNORECASE,
)


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
    ) -> Generator[str | Usage]:
        """`max_tokens` bounds what is quoted; `temperature` changes nothing."""
        quoted: list[str] = []
        best = self._best_sentences(prompt.query or prompt.question, prompt.passages)
        for sentence in self._within_budget(best, max_tokens):
            if stop():
                return
            quoted.append(f"{' ' if quoted else ''}{_quotation(sentence)}")
            yield quoted[-1]
        if not quoted:
            quoted.append(NO_ANSWER)
            yield NO_ANSWER
        counts = self._embedder.count_tokens([prompt.question, *(one.text for one in prompt.passages), "".join(quoted)])
        yield Usage(prompt_tokens=sum(counts[:-1]), completion_tokens=counts[-1])

    def check(self) -> str:
        return f"extractive: quotes the best sentences, found with {self._embedder.spec.model_id}; no key, no model"

    def _within_budget(self, best: Sequence[QuotableSentence], most: int) -> list[QuotableSentence]:
        """Of the best first as many as fit, the first always; then as one reads: passage by passage, each in order."""
        sizes = self._embedder.count_tokens([_quotation(one) for one in best]) if best else []
        totals = list(accumulate(sizes))
        kept = [one for one, total in zip(best, totals, strict=True) if one is best[0] or total <= most]
        passages = list(dict.fromkeys(one.passage for one in kept))
        return sorted(kept, key=lambda one: (passages.index(one.passage), one.place))

    def _best_sentences(self, question: str, passages: Sequence[Passage]) -> list[QuotableSentence]:
        """Best first."""
        import numpy as np

        candidates = [one for passage in passages for one in quotable_sentences(passage)]
        candidates = [one for one in candidates if not one.is_question] or candidates
        if not candidates:
            return []
        overlaps = _word_overlaps(question, candidates)
        order = sorted(range(len(candidates)), key=lambda at: (-overlaps[at], at))[:MAX_CANDIDATES]
        vectors = np.asarray(self._embedder.embed([question, *(candidates[at].text for at in order)]), np.float32)
        asked = stems(question)
        scored = [
            (float(cosine) + WORD_OVERLAP_WEIGHT * overlaps[at] + _adjustment(candidates[at], asked), at)
            for at, cosine in zip(order, vectors[1:] @ vectors[0], strict=True)
        ]
        ranked = sorted(scored, key=lambda one: (-round(one[0], 5), one[1]))
        return _select([(score, candidates[at]) for score, at in ranked])


def _select(ranked: Sequence[tuple[float, QuotableSentence]]) -> list[QuotableSentence]:
    """The best, and of the others those that come close to its score and say something else."""
    chosen: list[QuotableSentence] = []
    for score, sentence in ranked:
        if len(chosen) == MAX_SENTENCES:
            break
        share = MIN_SECOND_SCORE if len(chosen) == 1 else MIN_FURTHER_SCORE
        if sentence.passage not in {one.passage for one in chosen}:
            share = MIN_OTHER_PASSAGE_SCORE
        close = not chosen or score >= share * ranked[0][0]
        if close and not any(_repeats(sentence.words, one.words) for one in chosen):
            chosen.append(sentence)
    return chosen


def _quotation(sentence: QuotableSentence) -> str:
    return f"“{sentence.text}” {cite(sentence.passage)}"


def _word_overlaps(question: str, candidates: Sequence[QuotableSentence]) -> list[float]:
    """How much of the question each sentence holds, or is lent: of its words, rare ones count more
    (idf; Spärck Jones, 1972)."""
    asked = stems(question)
    counts = Counter(word for one in candidates for word in one.words & asked)
    weights = {word: log(1 + len(candidates) / (1 + counts[word])) for word in asked}
    total = sum(weights.values()) or 1.0

    def share(words: frozenset[str]) -> float:
        return sum(weights[word] for word in words & asked) / total

    return [max(share(one.words), one.lead_weight * share(one.lead)) for one in candidates]


def _adjustment(sentence: QuotableSentence, asked: set[str]) -> float:
    """What the passage's rank and a definition add, and what a sentence loses that does not stand alone."""
    bonus = RANK_WEIGHT / sentence.passage
    if asked and (copula := _COPULA.search(sentence.text)) and asked <= stems(sentence.text[: copula.start()]):
        bonus += DEFINITION_BONUS
    if _SELF_REFERENCE.search(sentence.text):
        bonus -= SELF_REFERENCE_PENALTY
    torn = sentence.text.count("“") != sentence.text.count("”") or sentence.text.count("(") != sentence.text.count(")")
    if torn or sentence.text[0].islower() or sentence.text.startswith(("...", "…")):
        bonus -= FRAGMENT_PENALTY
    return bonus - DEPENDENT_PENALTY if _DEPENDENT.match(sentence.text) else bonus


def _repeats(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) > MAX_SIMILARITY * max(1, min(len(a), len(b)))
