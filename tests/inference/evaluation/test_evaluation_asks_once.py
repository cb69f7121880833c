"""An evaluation of fifteen settings does not pay fifteen times for the same work."""

from collections import Counter

from passages import SPEC, VECTORS, embedded, fill

from llm_engineering.domain.chunks import Search, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.inference.evaluation.cached import CachedReader, CachedReranker
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import evaluate_retrieval
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore


class Counting:
    """Counts what passes through to a real reader, re-ranker or embedder."""

    name = "counting"

    def __init__(self, real=None) -> None:
        self.real, self.asked = real, Counter()

    def __getattr__(self, name):
        return getattr(self.real, name)

    def search_many(self, searches, **scope):
        self.asked.update(searches)
        return self.real.search_many(searches, **scope)

    def scores(self, question, texts):
        self.asked.update((question, text) for text in texts)
        return [float(len(text) + len(question)) for text in texts]

    def embed(self, texts):
        self.asked.update(texts)
        return self.real.embed(texts)


def test_the_same_search_is_made_once_and_every_setting_gets_its_list(tmp_path):
    store = EdgeVectorStore(tmp_path)
    fill(store, [embedded(i) for i in range(12)])
    counting = Counting(store.reader(SPEC))
    once = CachedReader(counting)
    dense, words = Search(vector=tuple(VECTORS[3])), Search(text="green things", bm25_weight=0.4)
    both = Search(vector=tuple(VECTORS[3]), text="green things", bm25_weight=0.4)
    for _ in range(2):
        found = once.search_many([dense, words, both, dense], where=None, limit=5)
        assert found == counting.real.search_many([dense, words, both, dense], where=None, limit=5)
        once.search_many([words.model_copy(update={"bm25_weight": 1.0})], where=None, limit=5)
    assert sorted(counting.asked.values()) == [1, 1, 1]
    posts = Where(kind=Kind.POST)
    assert once.search_many([dense], where=posts, limit=5) == counting.real.search_many([dense], where=posts, limit=5)
    assert len(once.search_many([dense], where=None, limit=2)[0]) == 2
    counting.real.close()


def test_a_pair_is_read_once_and_scores_stay_in_order():
    counting = Counting()
    once = CachedReranker(counting)
    assert once.scores("q", ["aa", "a", "aa"]) == [3, 2, 3]
    assert once.scores("q", ["bbb", "a"]) == [4, 2]
    assert once.scores("qq", ["a"]) == [3]
    assert set(counting.asked.values()) == {1}


def test_no_text_is_embedded_and_no_pair_read_twice_in_an_evaluation(tmp_path):
    published, embedder, reranker = EdgeVectorStore(tmp_path / "published"), HashingEmbedder(8), Counting()
    lines = "Whoever mends the {} number {} needs a table, patience and a friend who knows of {} already."
    things = ("kites", "clocks", "violins", "glaciers", "robots", "lenses", "engines", "gardens")
    texts = [lines.format(thing, i, thing) + " Truly" * i for i, thing in enumerate(things)]
    fill(published, [embedded(i, document=i, text=text, title=f"On {text[16:30]}") for i, text in enumerate(texts)])
    reader, counting = published.reader(SPEC), Counting(embedder)
    evaluate_retrieval(
        reader=reader,
        embedder=counting,
        scratch=EdgeVectorStore(tmp_path / "scratch"),
        rerankers={"maxsim": reranker},
        config=RetrievalEvaluationConfig(queries=30, resamples=100),
    )
    reader.close()
    assert set(counting.asked.values()) == {1}
    assert set(reranker.asked.values()) == {1}
