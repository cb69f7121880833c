"""The measures on rankings whose value can be worked out by hand."""

from math import log2

import pytest

from llm_engineering.inference.evaluation.measures import measure_one


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
