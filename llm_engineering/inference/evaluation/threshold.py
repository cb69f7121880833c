"""Where "nothing found" begins: what each `min_relevance` refuses that has an answer, and accepts that has none."""

from collections.abc import Iterable, Sequence
from datetime import date

from llm_engineering.domain.answers import Question
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.ports import Embedder, VectorReader
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.retrieval.relevance import relevance
from llm_engineering.inference.retrieval.retrieve import find_passages
from llm_engineering.inference.understanding.understand import understand

PHRASINGS = ("{topic}", "Tell me about {topic}", "What did {author} write about {topic}?")


class ErrorRates(Noun):
    """Of one `min_relevance`, 0 to 1."""

    min_relevance: float
    false_rejections: float  # of the questions that have an answer
    false_acceptances: float  # of those that have none


def phrased(topics: Iterable[tuple[str, str]]) -> list[str]:
    """Each (topic, author) as people ask for it."""
    return [phrasing.format(topic=topic, author=author) for topic, author in topics for phrasing in PHRASINGS]


def relevances(
    questions: Iterable[str], *, reader: VectorReader, embedder: Embedder, config: AskConfig, today: date
) -> list[float]:
    """For each question the number that `min_relevance` is compared with, computed as for an answer."""
    facets = reader.facets()
    found = []
    for text in questions:
        parsed = understand(
            Question(text=text), facets=facets, model=None, config=config.understand, today=today, count=reader.count
        )
        near = find_passages(parsed, embedder=embedder, reader=reader, config=config.retrieval)
        found.append(relevance(parsed.queries[0], near.passages, near.best_relevance))
    return found


def error_rates(
    answerable: Sequence[float], unanswerable: Sequence[float], thresholds: Iterable[float]
) -> list[ErrorRates]:
    """Both errors at each threshold, from `relevances`. Raises ZeroDivisionError without questions on either side."""
    return [
        ErrorRates(
            min_relevance=threshold,
            false_rejections=sum(one < threshold for one in answerable) / len(answerable),
            false_acceptances=sum(one >= threshold for one in unanswerable) / len(unanswerable),
        )
        for threshold in thresholds
    ]
