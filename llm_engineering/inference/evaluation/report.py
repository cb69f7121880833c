"""What an evaluation of retrieval found: plain data, kept as JSON."""

from llm_engineering.domain.noun import Noun
from llm_engineering.domain.runs import Report
from llm_engineering.domain.statistics import Estimate
from llm_engineering.inference.config import RetrievalConfig


class Scores(Noun):
    """One setting on one slice of the questions. `gain` is its MRR@10 less that of dense, paired."""

    setting: str
    half: str  # "choose", "measure" or "all"
    slice: str  # "all", "way: heading", "kind: article"
    filtered: bool  # by the author of the answer
    questions: int
    measures: dict[str, Estimate]
    gain: Estimate


class RetrievalReport(Report):
    """`best` was chosen on one half of the documents; `best_gain` is its relative MRR@10 gain over dense on the other.

    `configured` is the name of the setting that questions are answered with. `note` says what it was compared with.
    """

    title = "Retrieval"
    item = "Question"

    golden: str
    embedder: str
    seed: int
    documents: int
    chunks: int
    questions: dict[str, int]  # by way
    settings: dict[str, RetrievalConfig]
    scores: tuple[Scores, ...]
    best: str
    best_gain: Estimate
    configured: str
    note: str = ""

    @property
    def part(self) -> str:
        return "retrieval"

    def counts(self) -> dict[str, int]:
        return {"documents": self.documents, "passages": self.chunks, "questions": sum(self.questions.values())}

    def of(self, setting: str, *, half: str = "measure", slice: str = "all", filtered: bool = False) -> Scores:
        """Raises LookupError when it was not measured."""
        for scores in self.scores:
            if (scores.setting, scores.half, scores.slice, scores.filtered) == (setting, half, slice, filtered):
                return scores
        raise LookupError(f"no scores of {setting} ({half}, {slice}, filtered: {filtered})")
