"""How sure a measured mean is, and whether a candidate is worse or better."""

import pytest

from llm_engineering.domain.statistics import Bootstrap, Estimate, Verdict, compare_estimates

BOOTSTRAP = Bootstrap(resamples=500, seed=1)


def test_the_mean_lies_in_its_interval_and_more_documents_make_it_narrower():
    few = BOOTSTRAP.mean([0, 1] * 5, [str(i) for i in range(10)])
    many = BOOTSTRAP.mean([0, 1] * 50, [str(i) for i in range(100)])
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_questions_about_one_document_are_no_independent_evidence():
    values = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    alone = BOOTSTRAP.mean(values, [str(i) for i in range(10)])
    together = BOOTSTRAP.mean(values, ["a"] * 5 + ["b"] * 5)
    assert together.high - together.low > alone.high - alone.low


def test_a_paired_difference_is_surer_than_two_means():
    baseline = [0.0, 0.2, 0.4, 0.6, 0.8] * 4
    better = [value + 0.1 for value in baseline]
    groups = [str(i) for i in range(20)]
    gain = BOOTSTRAP.difference(better, baseline, groups)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_relative_gain_is_of_the_means():
    groups = [str(i) for i in range(20)]
    gain = BOOTSTRAP.relative_gain([0.6, 0.5] * 10, [0.5, 0.5] * 10, groups)
    assert gain.value == pytest.approx(0.1)
    assert 0 < gain.low < 0.1 < gain.high < 0.2
    assert BOOTSTRAP.relative_gain([1.0] * 20, [0.0] * 20, groups).value == 0


def test_the_same_seed_gives_the_same_interval():
    values, groups = [0, 1, 1, 0, 1, 0, 0, 1], list("aabbccdd")
    assert BOOTSTRAP.mean(values, groups) == BOOTSTRAP.mean(values, groups)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [0.5, float("inf")]])
def test_nothing_and_numbers_that_are_none_have_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        BOOTSTRAP.mean(values, [str(i) for i in range(len(values))])


def test_every_value_has_its_baseline_and_its_group():
    with pytest.raises(ValueError, match="zip"):
        BOOTSTRAP.difference([1.0, 2.0], [1.0], ["a", "b"])
    with pytest.raises(ValueError, match="same length"):
        BOOTSTRAP.mean([1.0, 2.0], ["a"])


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05)


@pytest.mark.parametrize(
    ("candidate", "same_questions", "verdict"),
    [
        (0.57, True, Verdict.WORSE),
        (0.585, True, Verdict.SIMILAR),
        (0.615, True, Verdict.SIMILAR),
        (0.63, True, Verdict.BETTER),
        (0.57, False, Verdict.SIMILAR),
        (0.52, False, Verdict.WORSE),
        (0.63, False, Verdict.SIMILAR),
        (0.68, False, Verdict.BETTER),
    ],
)
def test_on_other_questions_only_a_sure_difference_counts(candidate, same_questions, verdict):
    found = compare_estimates(estimate(candidate), estimate(0.6), margin=0.02, same_questions=same_questions)
    assert found is verdict
