"""The passages that are likely to answer a question."""

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from llm_engineering.domain.answers import ParsedQuestion, Passage
from llm_engineering.domain.chunks import Hit, IndexSpec, Search, Where
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, LLMTwinError
from llm_engineering.domain.ports import Embedder, Reranker, VectorReader, VectorStore
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.retrieval.fusion import blended, fuse, reordered
from llm_engineering.inference.retrieval.selection import collapsed, diverse, within_budget

MOST_PASSAGES = 50  # as domain/answers.py says of a question's limit
NOTHING = -1.0  # the relevance when there is no hit at all


class Ranked(NamedTuple):
    """`hits` best first, after fusion and re-ranking. `best_relevance` is the cosine of the nearest dense hit."""

    hits: tuple[Hit, ...]
    best_relevance: float
    facts: dict[str, object]  # for the trace


class Nearest(NamedTuple):
    """What one query found by itself, and the cosine of its nearest dense hit."""

    hits: list[Hit]
    relevance: float


class FoundPassages(NamedTuple):
    """`passages` are what the model may read; `hits` everything that was ranked, best first."""

    passages: tuple[Passage, ...]
    hits: tuple[Hit, ...]
    best_relevance: float
    facts: dict[str, object]


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
    understood: ParsedQuestion,
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
    wanted = config.passages if limit is None else limit
    if not 1 <= wanted <= MOST_PASSAGES:
        raise BadQuestion(f"limit is {limit}: ask for 1 to {MOST_PASSAGES} passages")
    config = config.model_copy(update={"candidates": max(config.candidates, 2 * wanted)})  # some repeat others
    ranked = rank(understood, embedder=embedder, reader=reader, reranker=reranker, config=config)
    enough = 3 * wanted if config.mmr else wanted  # diversity chooses among more
    distinct = collapsed(ranked.hits, above=config.collapse_above, enough=enough)
    chosen = diverse(distinct, weight=config.mmr, count=wanted)
    passages = within_budget(chosen, budget=config.token_budget, count_tokens=embedder.count_tokens)
    facts = ranked.facts | {"distinct": len(distinct), "passages": len(passages)}
    return FoundPassages(passages, ranked.hits, ranked.best_relevance, facts)


def rank(
    understood: ParsedQuestion,
    *,
    embedder: Embedder,
    reader: VectorReader,
    reranker: Reranker | None = None,
    config: RetrievalConfig,
) -> Ranked:
    """Every query in one round trip to the engine, fused, and the best ones re-ranked. Raises as `find_passages`."""
    queries = [query for query in understood.queries if query.strip()]
    if not queries:
        raise BadQuestion("the question is empty: ask something")
    started = perf_counter()
    vectors = embedder.embed(queries)
    embedded = perf_counter()
    answers = search_all(queries, vectors, reader=reader, where=understood.where, config=config)
    hits = fuse([answer.hits for answer in answers])[: config.candidates]
    searched = perf_counter()
    if reranker is not None:
        hits = rerank(queries[0], hits, reranker=reranker, config=config)
    facts: dict[str, object] = {
        "queries": len(queries),
        "candidates": len(hits),
        "reranker": reranker.name if reranker else "none",
        "seconds_embedding": embedded - started,
        "seconds_searching": searched - embedded,
        "seconds_reranking": perf_counter() - searched,
    }
    return Ranked(tuple(hits), answers[0].relevance, facts)


def search_all(
    queries: Sequence[str],
    vectors: Sequence[Sequence[float]],
    *,
    reader: VectorReader,
    where: Where | None = None,
    config: RetrievalConfig,
) -> list[Nearest]:
    """What each query finds by itself, in one round trip: dense, BM25 or both, as configured."""
    in_engine = config.bm25 and config.dense and config.fusion == "rrf"
    searches: list[Search] = []
    for query, vector in zip(queries, vectors, strict=True):
        numbers = tuple(float(x) for x in vector)
        weights = {"dense_weight": config.dense_weight, "bm25_weight": config.bm25_weight}
        searches.append(Search(vector=numbers))  # always: its score is the cosine, which says how relevant all this is
        if config.bm25:
            searches.append(Search(vector=numbers if in_engine else None, text=query, **weights))
    lists = reader.search_many(searches, where=where, limit=config.candidates)
    each = len(searches) // len(queries)
    return [_nearest(lists[each * i : each * (i + 1)], in_engine, config) for i in range(len(queries))]


def _nearest(lists: Sequence[list[Hit]], in_engine: bool, config: RetrievalConfig) -> Nearest:
    dense, *rest = lists
    relevance = dense[0].score if dense else NOTHING
    if in_engine:
        return Nearest(rest[0], relevance)
    by_meaning = dense if config.dense or not config.bm25 else []
    hits = blended(by_meaning, *rest or [()], dense_weight=config.dense_weight, bm25_weight=config.bm25_weight)
    return Nearest(hits[: config.candidates], relevance)


def rerank(question: str, hits: Sequence[Hit], *, reranker: Reranker, config: RetrievalConfig) -> list[Hit]:
    """The best `rerank_top` read again; the rest follow as they were, below them.

    Late interaction refines the first score and is added to it; a cross-encoder takes its place.
    """
    best, rest = hits[: config.rerank_top], hits[config.rerank_top :]
    again = reranker.scores(question, [hit.chunk.text for hit in best])
    if config.rerank == "maxsim":
        again = [hit.score + score for hit, score in zip(best, again, strict=True)]
    scored = reordered(best, again)
    floor = min(again, default=0.0)
    return scored + [Hit(chunk=hit.chunk, score=floor - rank) for rank, hit in enumerate(rest, start=1)]
