"""An evaluation of fifteen settings does not pay fifteen times for the same work."""

from collections import Counter
from collections.abc import Sequence

from passages import SPEC, VECTORS, embedded, fill

from llm_engineering.domain.chunks import Hit, Search, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ports import VectorReader
from llm_engineering.inference.evaluation.cached import CachedReader, CachedReranker
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import evaluate_retrieval
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore


class CountingSearcher:
    def __init__(self, reader: VectorReader) -> None:
        self.reader, self.searches = reader, Counter[Search]()

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        self.searches.update(searches)
        return self.reader.search_many(searches, where=where, limit=limit)


class CountingReranker:
    name = "counting"

    def __init__(self) -> None:
        self.pairs = Counter[tuple[str, str]]()

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.pairs.update((question, text) for text in texts)
        return [float(len(text) + len(question)) for text in texts]


class CountingEmbedder(HashingEmbedder):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.texts = Counter[str]()

    def embed(self, texts: Sequence[str]):
        self.texts.update(texts)
        return super().embed(texts)


def test_the_same_search_is_made_once_and_every_setting_gets_its_list(tmp_path):
    store = EdgeVectorStore(tmp_path)
    fill(store, [embedded(i) for i in range(12)])
    reader = store.reader(SPEC)
    counting = CountingSearcher(reader)
    cached = CachedReader(counting)
    dense, words = Search(vector=tuple(VECTORS[3])), Search(text="green things", bm25_weight=0.4)
    both = Search(vector=tuple(VECTORS[3]), text="green things", bm25_weight=0.4)
    for _ in range(2):
        found = cached.search_many([dense, words, both, dense], limit=5)
        assert found == reader.search_many([dense, words, both, dense], limit=5)
        cached.search_many([words.model_copy(update={"bm25_weight": 1.0})], limit=5)
    assert sorted(counting.searches.values()) == [1, 1, 1]
    posts = Where(kind=Kind.POST)
    assert cached.search_many([dense], where=posts, limit=5) == reader.search_many([dense], where=posts, limit=5)
    assert len(cached.search_many([dense], limit=2)[0]) == 2
    reader.close()


def test_a_pair_is_read_once_and_scores_stay_in_order():
    counting = CountingReranker()
    cached = CachedReranker(counting)
    assert cached.scores("q", ["aa", "a", "aa"]) == [3, 2, 3]
    assert cached.scores("q", ["bbb", "a"]) == [4, 2]
    assert cached.scores("qq", ["a"]) == [3]
    assert set(counting.pairs.values()) == {1}


def test_no_text_is_embedded_and_no_pair_read_twice_in_an_evaluation(tmp_path):
    published, embedder, reranker = EdgeVectorStore(tmp_path / "published"), CountingEmbedder(8), CountingReranker()
    lines = "Whoever mends the {} number {} needs a table, patience and a friend who knows of {} already."
    things = ("kites", "clocks", "violins", "glaciers", "robots", "lenses", "engines", "gardens")
    texts = [lines.format(thing, i, thing) + " Truly" * i for i, thing in enumerate(things)]
    fill(published, [embedded(i, document=i, text=text, title=f"On {text[16:30]}") for i, text in enumerate(texts)])
    reader = published.reader(SPEC)
    evaluate_retrieval(
        reader=reader,
        embedder=embedder,
        scratch=EdgeVectorStore(tmp_path / "scratch"),
        rerankers={"maxsim": reranker},
        config=RetrievalEvaluationConfig(queries=30, resamples=100),
    )
    reader.close()
    assert set(embedder.texts.values()) == {1}
    assert set(reranker.pairs.values()) == {1}
