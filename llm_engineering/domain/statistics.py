"""How sure a measured mean is: bootstrap intervals and paired differences, the same for retrieval and for models."""

from collections.abc import Sequence

from llm_engineering.domain.noun import Noun


class Estimate(Noun):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


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
