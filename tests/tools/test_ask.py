"""`poe ask`, as a person meets it."""

import pytest
from click.testing import CliRunner
from openai_endpoint import Endpoint
from passages import fill, passage

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.domain.errors import ConfigError
from tools.ask import main, search


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
    result = run("What makes bread?", "--limit", "1", "--passages")
    assert result.exit_code == 0, result.output
    assert "1. Baking [bold] > Bread" in result.output
    assert "https://example.com/0?ref=1" in result.output
    assert "Flour, water and salt make bread." in result.output
    [heading] = [line for line in result.output.splitlines() if line.startswith("1. ")]
    with open_platform() as platform:
        [hit] = search("What makes bread?", platform, limit=1)
    assert heading.split()[-1] == f"{hit.score:.3f}" == "0.989"
    assert "Crawling" not in result.output


@pytest.mark.usefixtures("indexed")
def test_an_author_is_found_however_the_name_is_spelt():
    result = run("bread", "--author", "author  1", "--passages")
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
        search("", platform)


@pytest.fixture
def lenient(monkeypatch, tmp_path):
    """Hashed words are never as close as meanings."""
    (tmp_path / "ask.yaml").write_text("retrieval: {min_relevance: 0.1, rerank: none}\n")
    return ("--config", str(tmp_path / "ask.yaml"))


@pytest.mark.usefixtures("indexed")
def test_an_answer_is_shown_with_the_sources_it_cites(lenient):
    result = run("What makes bread?", *lenient)
    assert result.exit_code == 0, result.output
    assert "Flour, water and salt make bread.” [1]" in result.output
    assert "[1] Baking [bold]  Author 0, 2024-01-01" in result.output
    assert "https://example.com/0?ref=1" in result.output
    assert "Crawling" not in result.output


@pytest.mark.usefixtures("indexed")
def test_what_was_understood_is_told(lenient):
    result = run("What does Author 0 say makes bread since 2035?", *lenient)
    assert "date since 2035: nothing indexed matches, so it was left out" in result.output


@pytest.mark.usefixtures("indexed")
def test_nothing_relevant_is_said_and_is_exit_code_1(lenient):
    result = run("zebra quantum umbrella", *lenient)
    assert result.exit_code == 1
    assert "I found nothing in the sources" in result.output


@pytest.mark.usefixtures("indexed")
def test_removed_citations_and_suspicious_passages_are_told(lenient, monkeypatch, new_site):
    endpoint = Endpoint(new_site())
    endpoint.says("Elephants fly to Mars [1]. Bread is made of flour and water [1].")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:tiny")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", endpoint.url)
    result = run("What makes bread?", *lenient)
    assert result.exit_code == 0, result.output
    assert "Elephants fly to Mars. Bread is made of flour and water [1]." in result.output
    assert "1 citations could not be verified" in result.output


@pytest.mark.usefixtures("indexed")
def test_a_model_that_is_down_says_what_to_do(lenient, monkeypatch):
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:tiny")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    result = run("What makes bread?", *lenient)
    assert result.exit_code == 1
    assert "TWIN_OPENAI_BASE_URL" in result.output
