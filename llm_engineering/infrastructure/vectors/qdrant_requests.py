"""The platform's searches, filters and plans in the words of Qdrant's API."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from llm_engineering.domain.chunks import Chunk, Search, Where
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.bm25 import encode_passage, encode_question, passage_text

BATCH = 256  # points per request: with vectors of 4,096 numbers some 25 MB, and a server takes 32 unless told otherwise
T = TypeVar("T")


def writes(plan: points.Plan) -> Iterator[list[Any]]:
    """One list of operations per request. New points first and stale ones last: a reader sees too much for a moment,
    never too little."""
    from qdrant_client import models as m

    for batch in _batches(plan.new):
        records = [
            m.PointStruct(
                id=point.chunk.id,
                vector={points.DENSE: point.vector, points.SPARSE: _passage(point.chunk)},
                payload=point.payload,
            )
            for point in batch
        ]
        yield [m.UpsertOperation(upsert=m.PointsList(points=records))]
    for batch in _batches(plan.kept):
        words = [m.PointVectors(id=p.chunk.id, vector={points.SPARSE: _passage(p.chunk)}) for p in batch]
        payloads = [m.SetPayload(payload=point.payload, points=[point.chunk.id]) for point in batch]
        yield [
            m.UpdateVectorsOperation(update_vectors=m.UpdateVectors(points=words)),
            *(m.OverwritePayloadOperation(overwrite_payload=one) for one in payloads),
        ]
    if plan.stale:
        yield [m.DeleteOperation(delete=m.PointIdsList(points=plan.stale))]


def request(search: Search, only: Any, wanted: int) -> Any:
    """None when the search holds neither a vector nor a word."""
    from qdrant_client import models as m

    question = encode_question(search.text) if search.text is not None else None
    asked: list[tuple[Any, str, float]] = []
    if search.vector is not None:
        asked.append(([float(x) for x in search.vector], points.DENSE, search.dense_weight))
    if question and question.indices:
        asked.append((m.SparseVector(**question._asdict()), points.SPARSE, search.bm25_weight))
    if not asked:
        return None
    if len(asked) == 1:
        [(query, using, _)] = asked
        return m.QueryRequest(query=query, using=using, filter=only, limit=wanted, with_payload=True)
    each = max(points.PREFETCH, wanted)
    return m.QueryRequest(
        prefetch=[m.Prefetch(query=query, using=using, filter=only, limit=each) for query, using, _ in asked],
        query=m.RrfQuery(rrf=m.Rrf(k=points.RRF_K, weights=[weight for *_, weight in asked])),
        limit=wanted,
        with_payload=True,
    )


def _passage(chunk: Chunk) -> Any:
    from qdrant_client import models as m

    return m.SparseVector(**encode_passage(passage_text(chunk))._asdict())


def only_where(where: Where | None) -> Any:
    from qdrant_client import models as m

    must: list[Any] = [
        m.FieldCondition(key=field, match=m.MatchAny(any=values)) for field, values in points.any_of(where).items()
    ]
    start, stop = points.between(where)
    if start or stop:
        must.append(m.FieldCondition(key="published_at", range=m.DatetimeRange(gte=start, lt=stop)))
    return m.Filter(must=must) if must else None


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))
