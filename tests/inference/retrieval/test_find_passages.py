"""From what was understood to numbered passages, with a real store, embedder and re-ranker."""

import pytest
from passages import fill, passage

from llm_engineering.domain.answers import ParsedQuestion
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.errors import BadQuestion
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.retrieval.retrieve import NO_RELEVANCE, find_passages, open_index
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.rerankers import MaxSimReranker
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore

TEXTS = (
    "Vector databases keep embeddings and find the nearest ones.",
    "Sourdough bread needs flour, water, salt and a night of patience.",
    "A crawler should honour robots.txt and wait between two requests.",
    "Rye bread needs a sour starter, rye flour and a hot stone.",
    "Salt keeps the dough together and slows the yeast down.",
)


@pytest.fixture
def embedder():
    return HashingEmbedder(512)


@pytest.fixture
def reader(tmp_path, embedder):
    store = EdgeVectorStore(tmp_path / "vectors")
    chunks = [passage(i, document=i, text=text) for i, text in enumerate(TEXTS)]
    vectors = embedder.embed([chunk.text for chunk in chunks])
    fill(
        store,
        [EmbeddedChunk(*pair) for pair in zip(chunks, vectors, strict=True)],
        spec=IndexSpec(embedding=embedder.spec),
    )
    reader = open_index(store, embedder=embedder)
    yield reader
    reader.close()


@pytest.fixture
def find(embedder, reader):
    def find(*queries, where=None, limit=None, reranker=None, **config):
        return find_passages(
            ParsedQuestion(queries=queries, where=where),
            embedder=embedder,
            reader=reader,
            reranker=reranker,
            config=RetrievalConfig(**config),
            limit=limit,
        )

    return find


def texts(found):
    return [one.chunk.text for one in found.passages]


def test_passages_are_numbered_best_first_and_hold_the_window(find):
    found = find("sourdough bread with flour", limit=3)
    assert [one.number for one in found.passages] == [1, 2, 3]
    assert texts(found)[0] == TEXTS[1]
    assert found.passages[0].text == f"before {TEXTS[1]} after"
    scores = [one.score for one in found.passages]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("ways", [{}, {"bm25": False}, {"dense": False}])
def test_the_best_relevance_is_the_cosine_whatever_ranks(find, embedder, ways):
    question = "sourdough bread with flour"
    cosine = float(embedder.embed([question])[0] @ embedder.embed([TEXTS[1]])[0])
    assert find(question, **ways).best_relevance == pytest.approx(cosine, abs=1e-4)


def test_a_question_about_nothing_there_is_less_relevant(find):
    assert find("zebra quartz").best_relevance < find("sourdough bread with flour").best_relevance


def test_every_expansion_is_searched(find):
    found = find("embeddings", "starter", dense=False)
    assert set(texts(found)) == {TEXTS[0], TEXTS[3]}
    assert found.facts["queries"] == 2


def test_a_filter_is_kept_for_every_query(find):
    only = Where(document_id=passage(2, document=2).document_id)
    assert texts(find("bread", "salt", where=only)) == [TEXTS[2]]


def test_a_filter_that_matches_nothing_finds_nothing(find):
    found = find("bread", where=Where(source="nowhere"), reranker=MaxSimReranker(HashingEmbedder(64)))
    assert (found.passages, found.hits, found.best_relevance) == ((), (), NO_RELEVANCE)


@pytest.mark.parametrize("limit", [0, -1, 51, 10_000])
def test_a_limit_out_of_range_is_refused_and_says_what_may_be(find, limit):
    with pytest.raises(BadQuestion, match=rf"{limit}.*1 to 50"):
        find("bread", limit=limit)


def test_more_than_there_is_gives_what_there_is(find):
    assert len(find("bread", limit=50, token_budget=5000).passages) == len(TEXTS)


def test_the_configured_number_is_taken_when_none_is_asked_for(find):
    assert len(find("bread", passages=2).passages) == 2


@pytest.mark.parametrize("queries", [(), ("",), (" \n",)])
def test_nothing_to_search_for_is_refused(find, queries):
    with pytest.raises(BadQuestion, match="empty"):
        find(*queries)


@pytest.mark.parametrize("question", ["🦊🦊", "?!…", "ما هو الخبز", "\0\1 \ud83d", "word " * 20_000])
def test_odd_questions_get_an_answer_like_any_other(find, question):
    assert len(find(question).passages) == len(TEXTS)


def test_a_reranker_decides_the_order_of_what_it_saw(find):
    class Shortest:
        name = "shortest first"

        def scores(self, question, texts):
            return [-len(text) for text in texts]

    found = find("bread flour salt", reranker=Shortest(), rerank_top=3, limit=5)
    lengths = [len(hit.chunk.text) for hit in found.hits]
    assert lengths[:3] == sorted(lengths[:3])
    assert len(found.hits) == len(TEXTS)
    assert found.facts["reranker"] == "shortest first"
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)


def test_passages_stay_under_the_token_budget(find, embedder):
    found = find("bread flour salt", token_budget=64)
    assert found.passages
    assert sum(embedder.count_tokens([one.text for one in found.passages])) <= 64
