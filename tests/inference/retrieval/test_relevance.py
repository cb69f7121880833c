"""Where "nothing found" begins, and how that is measured."""

from datetime import date

import pytest
from passages import fill, passage

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.evaluation.threshold import error_rates, phrased, relevances
from llm_engineering.inference.retrieval.relevance import CERTAIN, relevance
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore

TEXT = "Dense vectors are hopeless at ERR_4417, and at the surname of a person."


def numbered(*texts):
    return [Passage(number=i, chunk=passage(i, text=text), score=1, text=text) for i, text in enumerate(texts, start=1)]


@pytest.mark.parametrize("query", ["ERR_4417", "surnames of persons", "What is ERR_4417?"])
def test_a_passage_that_holds_every_word_is_relevant_however_far_its_meaning(query):
    assert relevance(query, numbered("Bread is food.", TEXT), 0.1) == CERTAIN


@pytest.mark.parametrize("query", ["ERR_4418", "surname of a volcano", "bread surname", "What is it?", ""])
def test_otherwise_the_nearest_cosine_decides(query):
    assert relevance(query, numbered("Bread is food.", TEXT), 0.1) == 0.1


def test_without_passages_nothing_is_relevant():
    assert relevance("ERR_4417", (), 0.9) <= 0


def test_questions_are_measured_the_way_they_are_answered(tmp_path):
    embedder = HashingEmbedder(256)
    store = EdgeVectorStore(tmp_path / "vectors")
    chunks = [passage(i, document=i, text=text, window=text) for i, text in enumerate(("Bread is food.", TEXT))]
    rows = embedder.embed([chunk.text for chunk in chunks])
    fill(store, [EmbeddedChunk(*p) for p in zip(chunks, rows, strict=True)], spec=IndexSpec(embedding=embedder.spec))
    reader = open_index(store, embedder=embedder)
    questions = phrased([("ERR_4417", chunks[1].author_name), ("volcano eruptions", chunks[1].author_name)])
    assert questions[2] == "What did Author 1 write about ERR_4417?"
    found = relevances(questions, reader=reader, embedder=embedder, config=AskConfig(), today=date(2026, 1, 1))
    reader.close()
    assert found[:2] == [CERTAIN, CERTAIN]
    [low, high] = error_rates(found[:2], found[3:], (-1.0, 0.99))
    assert (low.false_rejections, low.false_acceptances) == (0, 1)
    assert (high.false_rejections, high.false_acceptances) == (0, 0)
