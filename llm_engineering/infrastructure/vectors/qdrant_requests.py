"""The platform's searches, filters and plans in the words of Qdrant's API."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_engineering.domain.chunks import Chunk, Search, Where
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.bm25 import encode_passage, encode_question, passage_text

if TYPE_CHECKING:
    from qdrant_client import models as m

BATCH = 256  # points per request: with vectors of 4,096 numbers some 25 MB, and a server takes 32 unless told otherwise


def writes(plan: points.Plan) -> "Iterator[list[m.UpdateOperation]]":
    """One list of operations per request. New points first and stale ones last: a reader sees too much for a moment,
    never too little."""
    from qdrant_client import models as m

    for batch in points.batched(plan.new, BATCH):
        records = [
            m.PointStruct(
                id=point.chunk.id,
                vector={points.DENSE: point.vector, points.SPARSE: _sparse(point.chunk)},
                payload=point.payload,
            )
            for point in batch
        ]
        yield [m.UpsertOperation(upsert=m.PointsList(points=records))]
    for batch in points.batched(plan.kept, BATCH):
        words = [m.PointVectors(id=p.chunk.id, vector={points.SPARSE: _sparse(p.chunk)}) for p in batch]
        payloads = [m.SetPayload(payload=point.payload, points=[point.chunk.id]) for point in batch]
        yield [
            m.UpdateVectorsOperation(update_vectors=m.UpdateVectors(points=words)),
            *(m.OverwritePayloadOperation(overwrite_payload=one) for one in payloads),
        ]
    if plan.stale:
        yield [m.DeleteOperation(delete=m.PointIdsList(points=plan.stale))]


def query(search: Search, where: Where | None, wanted: int) -> "m.QueryRequest | None":
    """None when the search holds neither a vector nor a word."""
    from qdrant_client import models as m

    question = encode_question(search.text) if search.text is not None else None
    only, queries = condition(where), []
    if search.vector is not None:
        queries.append((list(search.vector), points.DENSE, search.dense_weight))
    if question and question.indices:
        queries.append((m.SparseVector(**question._asdict()), points.SPARSE, search.bm25_weight))
    if not queries:
        return None
    if len(queries) == 1:
        [(nearest, using, _)] = queries
        return m.QueryRequest(query=nearest, using=using, filter=only, limit=wanted, with_payload=True)
    each = max(points.PREFETCH, wanted)
    return m.QueryRequest(
        prefetch=[m.Prefetch(query=nearest, using=using, filter=only, limit=each) for nearest, using, _ in queries],
        query=m.RrfQuery(rrf=m.Rrf(k=points.RRF_K, weights=[weight for *_, weight in queries])),
        limit=wanted,
        with_payload=True,
    )


def condition(where: Where | None) -> "m.Filter | None":
    from qdrant_client import models as m

    must: list[m.Condition] = [
        m.FieldCondition(key=field, match=m.MatchAny(any=values)) for field, values in points.any_of(where).items()
    ]
    start, stop = points.between(where)
    if start or stop:
        must.append(m.FieldCondition(key="published_at", range=m.DatetimeRange(gte=start, lt=stop)))
    return m.Filter(must=must) if must else None


def _sparse(chunk: Chunk) -> "m.SparseVector":
    from qdrant_client import models as m

    return m.SparseVector(**encode_passage(passage_text(chunk))._asdict())
