"""The extraction benchmark counts what it says it counts."""

import pytest

from tools.bench import extraction


def test_the_score_counts_what_is_missing_and_what_is_too_much():
    gold = {"a": {"with": ["one  two", "three"], "without": ["menu"]}, "b": {"with": ["four"], "without": ["foot"]}}
    f, precision, recall = extraction.score({"a": "one\ntwo menu", "b": "four"}, gold)
    assert (precision, recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert f == pytest.approx(2 / 3)
    assert extraction.score({"a": "", "b": ""}, gold) == (0.0, 0.0, 0.0)


def test_markdown_syntax_is_no_text():
    markdown = (
        "# A *b*\n\n- see [c](https://d.example/)\n  e\n\n| f | g |\n| --- | --- |\n| h | `i` |\n\n```py\nj *k*\n```"
    )
    assert extraction.plain(markdown).split() == ["A", "b", "see", "c", "e", "f", "g", "h", "i", "j", "*k*"]


def test_without_pages_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(extraction, "PAGES", tmp_path)
    result = extraction.measure()
    assert result.bars == ()
    assert "not here" in result.skipped
