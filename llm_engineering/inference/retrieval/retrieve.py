"""The passages that are likely to answer a question."""

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

from llm_engineering.domain.answers import ParsedQuestion, Passage
from llm_engineering.domain.chunks import Hit, IndexSpec, Search, Where
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, LLMTwinError
from llm_engineering.domain.ports import Embedder, Reranker, VectorReader, VectorStore
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.retrieval.fusion import fuse_ranks, fuse_scores, rescored
from llm_engineering.inference.retrieval.selection import collapse_duplicates, diversify, fit_token_budget

MAX_PASSAGES = 50  # as domain/answers.py says of a question's limit
NO_RELEVANCE = -1.0  # the relevance when there is no hit at all


class Searcher(Protocol):
    """What ranking uses of a VectorReader."""

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]: ...


class Ranked(NamedTuple):
    """`hits` best first, after fusion and re-ranking. `best_relevance` is the cosine of the nearest dense hit."""

    hits: tuple[Hit, ...]
    best_relevance: float
    facts: dict[str, str | float]  # for the trace


class QueryHits(NamedTuple):
    """What one query found by itself, and the cosine of its nearest dense hit."""

    hits: list[Hit]
    relevance: float


class FoundPassages(NamedTuple):
    """`passages` are what the model may read; `hits` everything that was ranked, best first."""

    passages: tuple[Passage, ...]
    hits: tuple[Hit, ...]
    best_relevance: float
    facts: dict[str, str | float]


def open_index(vectors: VectorStore, *, embedder: Embedder) -> VectorReader:
    """A reader of what is published, which `embedder` may ask.

    Raises EmbeddingMismatch when another embedder built it, or the same one before it was retrained, LLMTwinError when
    nothing is published yet. An index that does not say the revision of its embedder is read, with a warning.
    """
    probe = vectors.reader()
    info = probe.info()
    probe.close()
    if info is None:
        raise LLMTwinError("nothing is indexed yet: run `poe run-etl`, then `poe run-features`")
    if not embedder.spec.can_read(info.spec.embedding):
        raise EmbeddingMismatch(
            f"the index was built with {info.spec.embedding}, and you ask with {embedder.spec}: "
            "set TWIN_EMBEDDER to the first, or run `poe run-features --rebuild` to build it with the second"
        )
    return vectors.reader(IndexSpec(embedding=embedder.spec, chunking=info.spec.chunking))


def retrieve(
    question: str, *, embedder: Embedder, reader: VectorReader, limit: int, where: Where | None = None
) -> list[Hit]:
    """Best first, by meaning (dense) and by words (BM25), fused as is the default; without re-ranking."""
    config = RetrievalConfig(candidates=max(limit, RetrievalConfig().candidates))
    [found] = search_all([question], embedder.embed([question]), reader=reader, where=where, config=config)
    return found.hits[:limit]


def find_passages(
    parsed: ParsedQuestion,
    *,
    embedder: Embedder,
    reader: VectorReader,
    reranker: Reranker | None = None,
    config: RetrievalConfig,
    limit: int | None = None,
) -> FoundPassages:
    """The passages to answer from, best first and numbered from 1, under the token budget.

    `limit` None: as configured. Raises BadQuestion when there is nothing to search for or the limit is out of range,
    EmbeddingMismatch, StoreUnavailable.
    """
    count = config.passages if limit is None else limit
    if not 1 <= count <= MAX_PASSAGES:
        raise BadQuestion(f"limit is {limit}: ask for 1 to {MAX_PASSAGES} passages")
    config = config.model_copy(update={"candidates": max(config.candidates, 2 * count)})  # some repeat others
    ranked = rank(parsed, embedder=embedder, reader=reader, reranker=reranker, config=config)
    enough = 3 * count if config.mmr else count  # diversity chooses among more
    distinct = collapse_duplicates(ranked.hits, above=config.collapse_above, enough=enough)
    chosen = diversify(distinct, weight=config.mmr, count=count)
    passages = fit_token_budget(chosen, budget=config.token_budget, count_tokens=embedder.count_tokens)
    facts = ranked.facts | {"distinct": len(distinct), "passages": len(passages)}
    return FoundPassages(passages, ranked.hits, ranked.best_relevance, facts)


def rank(
    parsed: ParsedQuestion,
    *,
    embedder: Embedder,
    reader: VectorReader,
    reranker: Reranker | None = None,
    config: RetrievalConfig,
) -> Ranked:
    """Every query in one round trip to the engine, fused, and the best ones re-ranked. Raises as `find_passages`."""
    queries = [query for query in parsed.queries if query.strip()]
    if not queries:
        raise BadQuestion("the question is empty: ask something")
    started = perf_counter()
    vectors = embedder.embed(queries)
    embedded = perf_counter()
    found = search_all(queries, vectors, reader=reader, where=parsed.where, config=config)
    hits = fuse_ranks([one.hits for one in found])[: config.candidates]
    searched = perf_counter()
    if reranker is not None:
        hits = rerank(queries[0], hits, reranker=reranker, config=config)
    facts: dict[str, str | float] = {
        "queries": len(queries),
        "candidates": len(hits),
        "reranker": reranker.name if reranker else "none",
        "seconds_embedding": embedded - started,
        "seconds_searching": searched - embedded,
        "seconds_reranking": perf_counter() - searched,
    }
    return Ranked(tuple(hits), found[0].relevance, facts)


def search_all(
    queries: Sequence[str],
    vectors: Iterable[Iterable[float]],
    *,
    reader: Searcher,
    where: Where | None = None,
    config: RetrievalConfig,
) -> list[QueryHits]:
    """What each query finds by itself, in one round trip: dense, BM25 or both, as configured."""
    in_engine = config.bm25 and config.dense and config.fusion == "rrf"
    searches: list[Search] = []
    for query, vector in zip(queries, vectors, strict=True):
        dense = tuple(float(x) for x in vector)
        weights = {"dense_weight": config.dense_weight, "bm25_weight": config.bm25_weight}
        searches.append(Search(vector=dense))  # always: its score is the cosine, which says how relevant all this is
        if config.bm25:
            searches.append(Search(vector=dense if in_engine else None, text=query, **weights))
    lists = reader.search_many(searches, where=where, limit=config.candidates)
    per_query = len(searches) // len(queries)
    by_query = [lists[at : at + per_query] for at in range(0, len(lists), per_query)]
    return [_query_hits(found, in_engine, config) for found in by_query]


def _query_hits(lists: Sequence[list[Hit]], in_engine: bool, config: RetrievalConfig) -> QueryHits:
    dense, *rest = lists
    relevance = dense[0].score if dense else NO_RELEVANCE
    if in_engine:
        return QueryHits(rest[0], relevance)
    by_meaning = dense if config.dense or not config.bm25 else []
    by_words = rest[0] if rest else []
    hits = fuse_scores(by_meaning, by_words, dense_weight=config.dense_weight, bm25_weight=config.bm25_weight)
    return QueryHits(hits[: config.candidates], relevance)


def rerank(question: str, hits: Sequence[Hit], *, reranker: Reranker, config: RetrievalConfig) -> list[Hit]:
    """The best `rerank_top` read again; the rest follow as they were, below them.

    Late interaction refines the first score and is added to it; a cross-encoder takes its place.
    """
    best, rest = hits[: config.rerank_top], hits[config.rerank_top :]
    scores = reranker.scores(question, [hit.chunk.text for hit in best])
    if config.rerank == "maxsim":
        scores = [hit.score + score for hit, score in zip(best, scores, strict=True)]
    scored = rescored(best, scores)
    floor = min(scores, default=0.0)
    return scored + [Hit(chunk=hit.chunk, score=floor - rank) for rank, hit in enumerate(rest, start=1)]
