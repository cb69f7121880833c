"""The platform's searches, filters and points in the words of Qdrant Edge."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.chunks import Chunk, Search, Where
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.bm25 import encode_passage, encode_question, passage_text
from llm_engineering.infrastructure.vectors.points import Point

if TYPE_CHECKING:
    import qdrant_edge as e

MOST_SEGMENTS = 1000


def config(size: int) -> "e.EdgeConfig":
    import qdrant_edge as e

    cold = e.Memory.Cold
    return e.EdgeConfig(
        vectors={points.DENSE: e.EdgeVectorParams(size=size, distance=e.Distance.Cosine, memory=cold)},
        sparse_vectors={points.SPARSE: e.EdgeSparseVectorParams(modifier=e.Modifier.Idf, memory=cold)},
        id_tracker_memory=cold,
        # m=0: no graph; comparing with every vector is exact, and no slower at the sizes one folder is for
        hnsw_config=e.HnswIndexConfig(m=0, ef_construct=64, full_scan_threshold=10_000),
        # what is sealed stays as it is: merging segments would need memory for all of them at once
        optimizers=e.EdgeOptimizersConfig(
            default_segment_number=MOST_SEGMENTS, max_segment_size=1, indexing_threshold=1
        ),
    )


def payload_indexes() -> "Iterator[e.UpdateOperation]":
    import qdrant_edge as e

    for field in points.KEYWORDS:
        # sealing puts an author's vectors side by side, so a question to one author reads them in one go
        keyword = e.KeywordIndexParams(memory=e.Memory.Cold, is_tenant=field == "author_id")
        yield e.UpdateOperation.create_field_index(field, keyword)
    for field in points.DATES:
        yield e.UpdateOperation.create_field_index(field, e.DatetimeIndexParams(memory=e.Memory.Cold))


def point(new: Point) -> "e.Point":
    import qdrant_edge as e

    return e.Point(
        id=new.chunk.id,
        vector={points.DENSE: new.vector, points.SPARSE: _sparse(new.chunk)},
        payload=new.payload,
    )


def rewrites(kept: Sequence[Point]) -> "Iterator[e.UpdateOperation]":
    """Another payload, and the BM25 words that come from it; the dense vector stays."""
    import qdrant_edge as e

    if kept:
        vectors = [e.PointVectors(id=one.chunk.id, vector={points.SPARSE: _sparse(one.chunk)}) for one in kept]
        yield e.UpdateOperation.update_vectors(vectors)
    for one in kept:
        yield e.UpdateOperation.overwrite_payload([one.chunk.id], one.payload)


def query(search: Search, where: Where | None, wanted: int) -> "e.QueryRequest | None":
    """None when the search holds neither a vector nor a word."""
    import qdrant_edge as e

    question = encode_question(search.text) if search.text is not None else None
    queries: list[e.Query] = []
    weights: list[float] = []
    if search.vector is not None:
        queries.append(e.Query.Nearest([float(x) for x in search.vector], using=points.DENSE))
        weights.append(search.dense_weight)
    if question and question.indices:
        queries.append(e.Query.Nearest(e.SparseVector(*question), using=points.SPARSE))
        weights.append(search.bm25_weight)
    if not queries:
        return None
    only = condition(where)
    if len(queries) == 1:
        return e.QueryRequest(query=queries[0], filter=only, limit=wanted, with_payload=False)
    each = max(points.PREFETCH, wanted)
    return e.QueryRequest(
        prefetches=[e.Prefetch(query=one, filter=only, limit=each) for one in queries],
        query=e.Fusion.Rrf(k=points.RRF_K, weights=weights),  # ty: ignore[invalid-argument-type] its stub has no base
        limit=wanted,
        with_payload=False,
    )


def condition(where: Where | None) -> "e.Filter | None":
    import qdrant_edge as e

    must: list[Any] = [
        e.FieldCondition(key=field, match=e.MatchAny(values)) for field, values in points.any_of(where).items()
    ]
    start, stop = points.between(where)
    if start or stop:
        span = e.RangeDateTime(gte=start.isoformat() if start else None, lt=stop.isoformat() if stop else None)
        must.append(e.FieldCondition(key="published_at", range=span))
    return e.Filter(must=must) if must else None


def _sparse(chunk: Chunk) -> "e.SparseVector":
    import qdrant_edge as e

    return e.SparseVector(*encode_passage(passage_text(chunk)))
