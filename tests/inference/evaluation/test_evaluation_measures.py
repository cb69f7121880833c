"""The measures on rankings whose value can be worked out by hand."""

from math import log2

import pytest

from llm_engineering.domain.statistics import difference, mean, relative_gain
from llm_engineering.inference.evaluation.measures import measure_one

SURE = {"resamples": 500, "seed": 1}


@pytest.mark.parametrize(
    ("ranking", "relevant", "expected"),
    [
        ("abc", "a", (1, 1, 1, 1)),
        ("bca", "a", (0, 1, 1 / 3, 1 / log2(4))),
        ("bcdefa", "a", (0, 0, 1 / 6, 1 / log2(7))),
        ("bcdefghijka", "a", (0, 0, 0, 0)),
        ("abc", "ac", (1, 1, 1, (1 + 1 / log2(4)) / (1 + 1 / log2(3)))),
        ("", "a", (0, 0, 0, 0)),
        ("abc", "", (0, 0, 0, 0)),
    ],
)
def test_each_measure_is_what_its_definition_says(ranking, relevant, expected):
    found = measure_one(list(ranking), set(relevant))
    assert (found["hit@1"], found["hit@5"], found["mrr@10"], found["ndcg@10"]) == pytest.approx(expected)


def test_the_mean_lies_in_its_interval_and_more_documents_make_it_narrower():
    few = mean([0, 1] * 5, [str(i) for i in range(10)], **SURE)
    many = mean([0, 1] * 50, [str(i) for i in range(100)], **SURE)
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_questions_about_one_document_are_no_independent_evidence():
    values = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    alone = mean(values, [str(i) for i in range(10)], **SURE)
    together = mean(values, ["a"] * 5 + ["b"] * 5, **SURE)
    assert together.high - together.low > alone.high - alone.low


def test_a_paired_difference_is_surer_than_two_means():
    baseline = [0.0, 0.2, 0.4, 0.6, 0.8] * 4
    better = [value + 0.1 for value in baseline]
    groups = [str(i) for i in range(20)]
    gain = difference(better, baseline, groups, **SURE)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_relative_gain_is_of_the_means():
    groups = [str(i) for i in range(20)]
    gain = relative_gain([0.6, 0.5] * 10, [0.5, 0.5] * 10, groups, **SURE)
    assert gain.value == pytest.approx(0.1)
    assert 0 < gain.low < 0.1 < gain.high < 0.2
    assert relative_gain([1.0] * 20, [0.0] * 20, groups, **SURE).value == 0


def test_the_same_seed_gives_the_same_interval():
    values, groups = [0, 1, 1, 0, 1, 0, 0, 1], list("aabbccdd")
    assert mean(values, groups, **SURE) == mean(values, groups, **SURE)
