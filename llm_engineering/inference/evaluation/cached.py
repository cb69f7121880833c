"""Settings differ in what they do with the same lists and scores, so each list and score is computed once."""

from collections.abc import Sequence

from llm_engineering.domain.chunks import Hit, Search, Where
from llm_engineering.domain.ports import Reranker
from llm_engineering.inference.retrieval.retrieve import Searcher


class CachedReader:
    """The searches of an index that does not change: the same one gives the list that was found first."""

    def __init__(self, reader: Searcher) -> None:
        self._reader = reader
        self._hits: dict[tuple[Search, Where | None, int], list[Hit]] = {}

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        keys = [(_cache_key(search), where, limit) for search in searches]
        new = list(dict.fromkeys(key for key in keys if key not in self._hits))
        if new:
            lists = self._reader.search_many([search for search, *_ in new], where=where, limit=limit)
            self._hits.update(zip(new, lists, strict=True))
        return [self._hits[key] for key in keys]


def _cache_key(search: Search) -> Search:
    """Weights change nothing where there is only one list."""
    return search if search.vector and search.text else Search(vector=search.vector, text=search.text)


class CachedReranker:
    """A re-ranker that reads each pair of question and passage once. Only for one whose score of a passage does not
    depend on the passages beside it, as late interaction and cross-encoders."""

    def __init__(self, reranker: Reranker) -> None:
        self.name = reranker.name
        self._reranker = reranker
        self._scores: dict[tuple[str, str], float] = {}

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        new = [text for text in dict.fromkeys(texts) if (question, text) not in self._scores]
        if new:
            scores = self._reranker.scores(question, new)
            self._scores.update(zip(((question, text) for text in new), scores, strict=True))
        return [self._scores[question, text] for text in texts]
