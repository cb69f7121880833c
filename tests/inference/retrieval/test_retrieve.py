"""From a question to passages, with a real store and a real embedder."""

import pytest
from passages import fill, passage

from llm_engineering.domain.chunks import ChunkingSpec, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.errors import EmbeddingMismatch, LLMTwinError
from llm_engineering.inference.retrieval.retrieve import open_index, retrieve
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore

TEXTS = (
    "Vector databases keep embeddings and find the nearest ones.",
    "Sourdough bread needs flour, water, salt and a night of patience.",
    "A crawler should honour robots.txt and wait between two requests.",
)


@pytest.fixture
def embedder():
    return HashingEmbedder(512)


@pytest.fixture
def store(tmp_path):
    return EdgeVectorStore(tmp_path / "vectors")


def index(store, embedder, chunking: ChunkingSpec | None = None):
    chunks = [passage(i, document=i, text=text) for i, text in enumerate(TEXTS)]
    vectors = embedder.embed([chunk.text for chunk in chunks])
    spec = IndexSpec(embedding=embedder.spec, chunking=chunking or ChunkingSpec())
    fill(store, [EmbeddedChunk(*pair) for pair in zip(chunks, vectors, strict=True)], spec=spec)


def test_the_passage_that_answers_comes_first(store, embedder):
    index(store, embedder)
    reader = open_index(store, embedder=embedder)
    hits = retrieve("bread with salt and flour", embedder=embedder, reader=reader, limit=2)
    assert len(hits) == 2
    assert hits[0].chunk.text == TEXTS[1]
    assert hits[0].score > hits[1].score


def test_a_filter_is_kept(store, embedder):
    index(store, embedder)
    only = Where(document_id=passage(2, document=2).document_id)
    reader = open_index(store, embedder=embedder)
    [hit] = retrieve("bread", embedder=embedder, reader=reader, limit=3, where=only)
    assert hit.chunk.text == TEXTS[2]


def test_any_chunking_can_be_asked(store, embedder):
    index(store, embedder, ChunkingSpec(max_tokens=100, window=500))
    assert retrieve("bread", embedder=embedder, reader=open_index(store, embedder=embedder), limit=1)


def test_nothing_indexed_says_what_to_run(store, embedder):
    with pytest.raises(LLMTwinError, match=r"(?s)nothing is indexed yet.*poe run-etl.*poe run-features"):
        open_index(store, embedder=embedder)


def test_another_embedder_is_refused_and_both_are_named(store, embedder):
    index(store, HashingEmbedder(128))
    with pytest.raises(EmbeddingMismatch, match=r"(?s)128.*512.*--rebuild"):
        open_index(store, embedder=embedder)


def test_an_index_that_does_not_say_the_revision_of_its_embedder_is_asked(store, embedder):
    older = embedder.spec.model_copy(update={"revision": None})
    rows = [EmbeddedChunk(passage(i, text=text), embedder.embed([text])[0]) for i, text in enumerate(TEXTS)]
    fill(store, rows, spec=IndexSpec(embedding=older))
    hits = retrieve("sourdough", embedder=embedder, reader=open_index(store, embedder=embedder), limit=1)
    assert hits[0].chunk.text == TEXTS[1]


def test_an_index_rebuilt_with_another_chunking_is_not_asked_by_mistake(store, embedder):
    index(store, embedder)
    reader = open_index(store, embedder=embedder)
    fill(
        store,
        [],
        spec=IndexSpec(embedding=embedder.spec, chunking=ChunkingSpec(window=7)),
        rebuild=True,
    )
    with pytest.raises(EmbeddingMismatch):
        retrieve("bread", embedder=embedder, reader=reader, limit=1)
