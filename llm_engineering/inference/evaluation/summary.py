"""What was measured, summed up into a report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.statistics import Bootstrap
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.evaluation.golden import GoldenSet
from llm_engineering.inference.evaluation.grid import CONFIGURED, DENSE
from llm_engineering.inference.evaluation.measures import MEASURES
from llm_engineering.inference.evaluation.report import RetrievalReport, Scores

CHOSEN_BY = "mrr@10"
Values = Mapping[str, Sequence[float]]  # measure -> one number per question, in their order


class Subset(NamedTuple):
    """Questions that are scored together: `rows` are their places."""

    half: str
    slice: str
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """`values` holds what was measured by (name of the setting, filtered by author or not)."""

    golden: GoldenSet
    searched: Sequence[Chunk]
    settings: Mapping[str, RetrievalConfig]
    values: Mapping[tuple[str, bool], Values]
    bootstrap: Bootstrap

    def report(self, *, embedder: str, seconds: float) -> RetrievalReport:
        """`embedder` is its model's id."""
        scores = [self._scores(*key, subset) for key in self.values for subset in self._subsets()]
        best = self._best(scores)
        rows = [i for i, query in enumerate(self.golden.queries) if query.half == "measure"]
        gain = self.bootstrap.relative_gain(
            self._values(best, False, CHOSEN_BY, rows), self._values(DENSE, False, CHOSEN_BY, rows), self._groups(rows)
        )
        return RetrievalReport(
            golden=self.golden.version,
            embedder=embedder,
            seed=self.bootstrap.seed,
            documents=len({chunk.document_id for chunk in self.searched}),
            chunks=len(self.searched),
            questions=dict(Counter(query.way for query in self.golden.queries)),
            settings=dict(self.settings),
            scores=tuple(scores),
            best=best,
            best_gain=gain,
            configured=CONFIGURED,
            seconds=seconds,
            started_at=datetime.now(UTC) - timedelta(seconds=seconds),
        )

    def _best(self, scores: Sequence[Scores]) -> str:
        """The setting to recommend, chosen on one half of the documents, so that the other can judge it."""
        chosen_on = {
            one.setting: one.measures[CHOSEN_BY].value
            for one in scores
            if (one.half, one.slice, one.filtered) == ("choose", "all", False) and one.setting != CONFIGURED
        }
        return max(chosen_on, key=lambda setting: chosen_on[setting])

    def _scores(self, setting: str, filtered: bool, subset: Subset) -> Scores:
        rows, groups = subset.rows, self._groups(subset.rows)
        values = {measure: self._values(setting, filtered, measure, rows) for measure in MEASURES}
        dense = self._values(DENSE, filtered, CHOSEN_BY, rows)
        return Scores(
            setting=setting,
            half=subset.half,
            slice=subset.slice,
            filtered=filtered,
            questions=len(rows),
            measures={measure: self.bootstrap.mean(values[measure], groups) for measure in MEASURES},
            gain=self.bootstrap.difference(values[CHOSEN_BY], dense, groups),
        )

    def _values(self, setting: str, filtered: bool, measure: str, rows: Sequence[int]) -> list[float]:
        return [self.values[setting, filtered][measure][i] for i in rows]

    def _groups(self, rows: Sequence[int]) -> list[str]:
        return [self.golden.queries[i].document_id for i in rows]

    def _subsets(self) -> Iterator[Subset]:
        queries = self.golden.queries
        for half in ("choose", "measure"):
            yield Subset(half, "all", tuple(i for i, one in enumerate(queries) if one.half == half))
        yield Subset("all", "all", tuple(range(len(queries))))
        for way in sorted({one.way for one in queries}):
            yield Subset("all", f"way: {way}", tuple(i for i, one in enumerate(queries) if one.way == way))
        for kind in sorted({one.kind for one in queries}):
            yield Subset("all", f"kind: {kind}", tuple(i for i, one in enumerate(queries) if one.kind == kind))
