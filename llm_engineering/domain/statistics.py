"""How sure a measured mean is, and whether a candidate is worse or better: the same for retrieval and for models.

Intervals are percentile bootstraps over whole groups (documents, conversations), since what is measured on one is alike
(Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13). Two systems that were measured on the
same questions are compared by their paired differences (Dror et al., "The Hitchhiker's Guide to Testing Statistical
Significance in Natural Language Processing", ACL 2018). With few groups an interval is too narrow; with one it has no
width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from llm_engineering.domain.noun import Noun


class Estimate(Noun):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are computed. The same seed gives the same interval."""

    resamples: int
    seed: int

    def mean(self, values: Sequence[float], groups: Sequence[str]) -> Estimate:
        """The mean of `values`; `groups` says for each which group it belongs to.

        Raises ValueError without values, for a value that is no finite number, and when the lengths differ."""
        return self._ratio(values, [1.0] * len(values), groups)

    def difference(self, values: Sequence[float], baseline: Sequence[float], groups: Sequence[str]) -> Estimate:
        """mean(values) - mean(baseline), paired: both were measured on the same questions. Raises as `mean`."""
        return self.mean(_differences(values, baseline), groups)

    def relative_gain(self, values: Sequence[float], baseline: Sequence[float], groups: Sequence[str]) -> Estimate:
        """(mean(values) - mean(baseline)) / mean(baseline), paired; 0.1 is ten per cent better.

        `baseline` holds no negative numbers; the gain over nothing but zeros is 0. Raises as `mean`."""
        return self._ratio(_differences(values, baseline), baseline, groups)

    def _ratio(self, numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str]) -> Estimate:
        """sum(numerators) / sum(denominators)."""
        import numpy as np

        if not groups or not all(map(isfinite, (*numerators, *denominators))):
            raise ValueError("an estimate needs values, all of them finite numbers")
        if not sum(denominators):
            return Estimate(value=0, low=0, high=0)
        names, index = np.unique(list(groups), return_inverse=True)
        sums = np.stack([np.bincount(index, weights, len(names)) for weights in (numerators, denominators)])
        draws = np.random.default_rng(self.seed).multinomial(
            len(names), np.full(len(names), 1 / len(names)), self.resamples
        )
        above, below = draws @ sums[0], draws @ sums[1]
        low, high = np.percentile(above[below > 0] / below[below > 0], [2.5, 97.5])
        return Estimate(value=float(sum(numerators) / sum(denominators)), low=float(low), high=float(high))


def _differences(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, baseline, strict=True)]


class Verdict(StrEnum):
    """Of a candidate against a baseline."""

    WORSE = "worse"
    SIMILAR = "similar"  # within the margin, or not sure
    BETTER = "better"


def compare_estimates(candidate: Estimate, baseline: Estimate, *, margin: float, same_questions: bool) -> Verdict:
    """Whether `candidate` lies more than `margin` below or above `baseline`; more is better, so negate a loss.

    On the same questions the two values are compared. On others the questions alone make a difference, so then the
    whole interval of the candidate must lie outside the margin.
    """
    low, high = (candidate.value, candidate.value) if same_questions else (candidate.low, candidate.high)
    if high < baseline.value - margin:
        return Verdict.WORSE
    return Verdict.BETTER if low > baseline.value + margin else Verdict.SIMILAR
