"""Fusing, collapsing, diversity and the token budget: pure functions over small texts."""

import pytest
from passages import passage

from llm_engineering.domain.chunks import Hit
from llm_engineering.inference.retrieval.fusion import fuse_ranks, fuse_scores, rescored
from llm_engineering.inference.retrieval.selection import (
    HitWindow,
    collapse_duplicates,
    diversify,
    fit_token_budget,
    hit_window,
    shingles,
    similarity,
)


def hit(i: int, score: float, *, text: str | None = None, version: str = "v1", **fields: object) -> Hit:
    return Hit(chunk=passage(i, document=i, text=text, version=version, **fields), score=score)


def ids(hits) -> list[str]:
    return [one.chunk.id for one in hits]


def words(texts) -> list[int]:
    return [len(text.split()) for text in texts]


# --- fusing ---


def test_a_single_list_stays_as_it_is():
    hits = [hit(1, 0.9), hit(2, 0.3)]
    assert fuse_ranks([hits]) == hits


def test_what_several_lists_found_comes_first():
    one, two, three = hit(1, 0.9), hit(2, 0.5), hit(3, 0.4)
    found = fuse_ranks([[one, two], [three, two]])
    assert found[0].chunk == two.chunk
    assert found[0].score == pytest.approx(2 / 62)
    assert {f.score for f in found[1:]} == {1 / 61}
    assert ids(found[1:]) == sorted(ids([one, three]))


def test_scores_are_blended_by_their_weights():
    dense, bm25 = [hit(1, 0.8), hit(2, 0.4)], [hit(2, 20.0), hit(3, 5.0)]
    found = fuse_scores(dense, bm25, dense_weight=1.0, bm25_weight=0.5)
    scores = {one.chunk.id: one.score for one in found}
    assert scores == {
        passage(1, document=1).id: pytest.approx(0.8 + 0.5 * 0.25),  # not found by words: the lowest of them
        passage(2, document=2).id: pytest.approx(0.4 + 0.5 * 1.0),
        passage(3, document=3).id: pytest.approx(0.4 + 0.5 * 0.25),  # not found by meaning: the lowest of them
    }
    assert [one.score for one in found] == sorted(scores.values(), reverse=True)


@pytest.mark.parametrize(("dense", "bm25"), [([], [hit(1, 7.0)]), ([hit(1, 0.5)], []), ([hit(1, -0.2)], [hit(1, 0.0)])])
def test_either_list_may_be_empty_or_worth_nothing(dense, bm25):
    assert ids(fuse_scores(dense, bm25, dense_weight=1.0, bm25_weight=0.7)) == [passage(1, document=1).id]


def test_new_scores_make_a_new_order_and_must_be_as_many():
    hits = [hit(1, 0.9), hit(2, 0.3)]
    assert ids(rescored(hits, [0.1, 0.2])) == ids(reversed(hits))
    with pytest.raises(ValueError, match="zip"):
        rescored(hits, [0.1])


# --- near-duplicates and neighbours ---

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def test_a_repost_is_one_passage_and_the_better_one_is_kept():
    found = collapse_duplicates([hit(1, 0.9, text=LONG), hit(2, 0.8, text=LONG.upper() + "!"), hit(3, 0.7)], above=0.9)
    assert [one.hit.score for one in found] == [0.9, 0.7]


def test_texts_that_only_resemble_each_other_stay_two():
    assert (
        len(collapse_duplicates([hit(1, 0.9, text=LONG), hit(2, 0.8, text=LONG + " and now for more")], above=0.9)) == 2
    )


def test_looking_ends_when_there_are_enough():
    hits = [hit(1, 0.9, text=LONG), hit(2, 0.8, text=LONG), hit(3, 0.7), hit(4, 0.6)]
    assert [one.hit.score for one in collapse_duplicates(hits, above=0.9, enough=2)] == [0.9, 0.7]


TEXT = "".join(f"Sentence number {i} says something of its own about subject {i * i}. " for i in range(60))


def cut(start: int, end: int, score: float, *, around: int = 150, version: str = "v1") -> Hit:
    window = TEXT[max(0, start - around) : end + around]
    return hit(7, score, text=TEXT[start:end], window=window, start=start, end=end, version=version)


def test_neighbours_are_joined_into_one_passage_with_no_word_twice():
    [joined] = collapse_duplicates([cut(600, 900, 0.9), cut(1000, 1300, 0.5)], above=0.9)
    assert joined.text == TEXT[450:1450]
    assert joined.hit.score == 0.9
    [other_way_round] = collapse_duplicates([cut(1000, 1300, 0.9), cut(600, 900, 0.5)], above=0.9)
    assert other_way_round.text == joined.text


def test_a_passage_within_a_better_ones_window_is_not_shown_again():
    [one] = collapse_duplicates([cut(600, 900, 0.9, around=500), cut(920, 1000, 0.5, around=0)], above=0.9)
    assert one.text == TEXT[100:1400]


def test_neighbours_that_do_not_touch_stay_two():
    assert len(collapse_duplicates([cut(600, 900, 0.9), cut(2000, 2300, 0.5)], above=0.9)) == 2


def test_passages_of_two_revisions_of_a_page_are_not_glued_together():
    assert len(collapse_duplicates([cut(600, 900, 0.9), cut(1000, 1300, 0.5, version="v2")], above=0.9)) == 2


def test_joining_ends_at_twice_the_window():
    hits = [cut(at, at + 300, 0.9 - at / 10_000) for at in range(600, 3000, 300)]
    found = collapse_duplicates(hits, above=0.9)
    assert len(found) > 1
    assert all(len(one.text) <= 2 * 600 for one in found)


def test_a_window_that_does_not_hold_its_passage_is_not_trusted():
    one = hit_window(hit(1, 0.9, text="the passage", window="something else"))
    assert one.text == "the passage"


def test_shingles_of_short_texts_are_their_words():
    assert shingles("Two words") == {"two", "words"}
    assert similarity(shingles(""), shingles("")) == 0
    assert similarity(shingles("a b c d"), shingles("b c d e")) == pytest.approx(1 / 3)


# --- diversity ---

ALIKE = ["bread with salt and flour", "bread with salt and rye flour", "robots and crawlers"]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [0, 1]), (0.7, [0, 2])])
def test_diversity_prefers_what_is_unlike_what_is_picked(weight, expected):
    items = [hit_window(hit(i, 0.9 - i / 10, text=text)) for i, text in enumerate(ALIKE)]
    assert diversify(items, weight=weight, count=2) == [items[i] for i in expected]


def test_diversity_with_equal_scores_or_one_item_is_no_trouble():
    same = [hit_window(hit(i, 0.5, text=text)) for i, text in enumerate(ALIKE)]
    assert diversify(same, weight=0.5, count=5)[0] == same[0]
    assert len(diversify(same, weight=0.5, count=5)) == 3
    assert diversify(same[:1], weight=0.5, count=5) == same[:1]


# --- the budget ---


def item(i: int, text: str, window: str) -> HitWindow:
    return hit_window(hit(i, 1 - i / 10, text=text, window=window))


def test_windows_are_shown_as_long_as_they_fit_and_then_passages_alone():
    items = [item(0, "a b", "x a b y"), item(1, "c d", "x c d y"), item(2, "e f", "e f")]
    found = fit_token_budget(items, budget=7, count_tokens=words)
    assert [one.text for one in found] == ["x a b y", "c d"]
    assert [one.number for one in found] == [1, 2]
    assert sum(words(one.text for one in found)) <= 7


def test_the_best_passage_is_there_even_when_it_must_be_cut():
    [one] = fit_token_budget([item(0, "a b c d e f", "a b c d e f")], budget=3, count_tokens=words)
    assert one.text.split() == ["a", "b", "c"]


def test_nothing_found_is_nothing_shown():
    assert fit_token_budget([], budget=100, count_tokens=words) == ()
