"""`poe ask`, as a person meets it."""

import pytest
from click.testing import CliRunner
from passages import fill, passage

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.domain.errors import ConfigError
from tools.ask import ask, main


@pytest.fixture(autouse=True)
def _hashing(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def indexed():
    chunks = [
        passage(0, document=0, text="Flour, water and salt make bread.", title="Baking [bold]", headings=("Bread",)),
        passage(1, document=1, text="Crawlers honour robots.txt.", title="Crawling"),
    ]
    with open_platform() as platform:
        vectors = platform.embedder.embed([chunk.text for chunk in chunks])
        spec = IndexSpec(embedding=platform.embedder.spec)
        fill(platform.vectors, [EmbeddedChunk(*pair) for pair in zip(chunks, vectors, strict=True)], spec=spec)


@pytest.mark.usefixtures("indexed")
def test_passages_are_shown_with_title_headings_link_and_score():
    result = run("What makes bread?", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert "1. Baking [bold] > Bread" in result.output
    assert "https://example.com/0?ref=1" in result.output
    assert "Flour, water and salt make bread." in result.output
    assert "0.033" in result.output  # first by meaning and by words: 2/61
    assert "Crawling" not in result.output


@pytest.mark.usefixtures("indexed")
def test_an_author_is_found_however_the_name_is_spelt():
    result = run("bread", "--author", "author  1")
    assert result.exit_code == 0
    assert "Crawling" in result.output
    assert "Baking" not in result.output


@pytest.mark.usefixtures("indexed")
def test_an_unknown_author_is_told_from_an_empty_answer():
    result = run("bread", "--author", "Nobody")
    assert result.exit_code == 2
    assert "nothing by 'Nobody' is indexed" in result.output


def test_nothing_indexed_says_what_to_run():
    result = run("anything")
    assert result.exit_code == 1
    assert "nothing is indexed yet: run `poe run-etl`, then `poe run-features`" in result.output


def test_an_empty_index_says_what_to_run():
    with open_platform() as platform:
        fill(platform.vectors, [], spec=IndexSpec(embedding=platform.embedder.spec))
    result = run("anything")
    assert result.exit_code == 1
    assert "the index is empty: run" in result.output


@pytest.mark.usefixtures("indexed")
def test_another_embedder_says_how_to_rebuild(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:32")
    result = run("bread")
    assert result.exit_code == 1
    assert "poe run-features --rebuild" in result.output


def test_no_question_is_refused():
    assert run("  ").exit_code == 2
    assert run("x", "--limit", "0").exit_code == 2
    with open_platform() as platform, pytest.raises(ConfigError, match="ask something"):
        ask("", platform)
