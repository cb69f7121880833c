"""Whether what was found says anything about the question: the difference between an answer and "nothing found"."""

from collections.abc import Sequence

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.prose import content_words

CERTAIN = 1.0  # the cosine of two texts that say the same


def relevance(query: str, passages: Sequence[Passage], nearest: float) -> float:
    """`nearest`, the cosine of the nearest passage, or CERTAIN where one passage holds every content word of `query`.

    A surname, a product or an error code has no neighbours in meaning, so its cosine says little; where its letters
    stand, the passage speaks of it. docs/evaluate-retrieval.md holds the figures. 0 or less without passages.
    """
    stems = {word.stem for word in content_words(query)}
    passage_stems = ({word.stem for word in content_words(one.chunk.text)} for one in passages)
    if stems and any(stems <= held for held in passage_stems):
        return CERTAIN
    return nearest if passages else min(nearest, 0.0)
