"""Where "nothing found" begins: what each `min_relevance` turns away that has an answer, and answers that has none."""

from collections.abc import Iterable, Sequence
from datetime import date

from llm_engineering.domain.answers import Question
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.ports import Embedder, VectorReader
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.retrieval.relevance import relevance
from llm_engineering.inference.retrieval.retrieve import find_passages
from llm_engineering.inference.understanding.understand import understand

FRAMES = ("{topic}", "Tell me about {topic}", "What did {author} write about {topic}?")


class Cut(Noun):
    """Shares, 0 to 1, at one `min_relevance`."""

    min_relevance: float
    turned_away: float  # of the questions that have an answer
    let_through: float  # of those that have none


def framed(topics: Iterable[tuple[str, str]]) -> list[str]:
    """Each (topic, author) as people ask for it."""
    return [frame.format(topic=topic, author=author) for topic, author in topics for frame in FRAMES]


def relevances(
    questions: Iterable[str], *, reader: VectorReader, embedder: Embedder, config: AskConfig, today: date
) -> list[float]:
    """For each question the number that `min_relevance` is compared with, by the very way an answer takes."""
    facets = reader.facets()
    found = []
    for text in questions:
        understood = understand(
            Question(text=text), facets=facets, model=None, config=config.understand, today=today, count=reader.count
        )
        near = find_passages(understood, embedder=embedder, reader=reader, config=config.retrieval)
        found.append(relevance(understood.queries[0], near.passages, near.best_relevance))
    return found


def cuts(answerable: Sequence[float], unanswerable: Sequence[float], at: Iterable[float]) -> list[Cut]:
    """Both sides of the bargain at each threshold. Raises ZeroDivisionError without questions on either side."""
    return [
        Cut(
            min_relevance=least,
            turned_away=sum(one < least for one in answerable) / len(answerable),
            let_through=sum(one >= least for one in unanswerable) / len(unanswerable),
        )
        for least in at
    ]
