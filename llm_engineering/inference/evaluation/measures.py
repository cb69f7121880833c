"""How good rankings are, and how sure that is. Pure functions over ranks and numbers."""

from collections.abc import Collection, Sequence
from math import log2

from llm_engineering.domain.noun import Noun

MEASURES = ("hit@1", "hit@5", "mrr@10", "ndcg@10")
DEPTH = 10


class Estimate(Noun):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


def measure_one(ranking: Sequence[str], relevant: Collection[str]) -> dict[str, float]:
    """hit@1, hit@5, MRR@10 (Voorhees, TREC-8, 1999) and nDCG@10 with binary gains (Järvelin & Kekäläinen, 2002)."""
    right = [one in relevant for one in ranking[:DEPTH]]
    first = right.index(True) + 1 if any(right) else 0
    gained = sum(1 / log2(rank + 1) for rank, good in enumerate(right, start=1) if good)
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(len(relevant), DEPTH) + 1))
    return {
        "hit@1": float(first == 1),
        "hit@5": float(0 < first <= 5),
        "mrr@10": 1 / first if first else 0.0,
        "ndcg@10": gained / ideal if ideal else 0.0,
    }


def mean(values: Sequence[float], groups: Sequence[str], *, resamples: int, seed: int) -> Estimate:
    """The mean of `values`. Whole groups (documents) are drawn again, since questions about one are alike
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8)."""
    ones = [1.0] * len(values)
    return _ratio(values, ones, groups, resamples, seed)


def difference(
    values: Sequence[float], baseline: Sequence[float], groups: Sequence[str], *, resamples: int, seed: int
) -> Estimate:
    """Of the means, paired: both answered the same questions."""
    apart = [one - other for one, other in zip(values, baseline, strict=True)]
    return mean(apart, groups, resamples=resamples, seed=seed)


def relative_gain(
    values: Sequence[float], baseline: Sequence[float], groups: Sequence[str], *, resamples: int, seed: int
) -> Estimate:
    """(mean - baseline mean) / baseline mean, paired; 0.1 is ten per cent better. 0 when the baseline is 0."""
    apart = [one - other for one, other in zip(values, baseline, strict=True)]
    return _ratio(apart, baseline, groups, resamples, seed)


def _ratio(
    above: Sequence[float], below: Sequence[float], groups: Sequence[str], resamples: int, seed: int
) -> Estimate:
    """sum(above) / sum(below) with its percentile interval."""
    import numpy as np

    if not sum(below):
        return Estimate(value=0, low=0, high=0)
    names, index = np.unique(list(groups), return_inverse=True)
    sums = np.stack([np.bincount(index, above, len(names)), np.bincount(index, below, len(names))])
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    tops, bottoms = draws @ sums[0], draws @ sums[1]
    low, high = np.percentile(tops[bottoms > 0] / bottoms[bottoms > 0], [2.5, 97.5])
    return Estimate(value=float(sum(above) / sum(below)), low=float(low), high=float(high))
