"""What every adapter stores for a chunk, and how it knows that a document is stored whole."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple, Protocol, TypeVar

from loguru import logger

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import EmbeddingMismatch
from llm_engineering.domain.ports import IndexInfo

DENSE, SPARSE = "dense", "bm25"
FILTERS = tuple(field for field in Where.model_fields if field in Chunk.model_fields)  # dates are asked as a range
KEYWORDS = (*FILTERS, "link")
DATES = ("published_at",)
SIBLINGS = "document_chunks"  # how many chunks the document has: fewer points than that is a half-written document

RRF_K = 60  # Cormack et al., "Reciprocal Rank Fusion", SIGIR 2009
PREFETCH = 50  # candidates of each kind before they are fused, at least
SPARE = 16  # asked for beyond the limit, so that equal scores at the edge do not depend on the engine

DOCUMENTS_TOGETHER = 500  # looked up in one request
MOST_VALUES = 100_000  # authors, kinds, sources: more than this are not listed

REBUILD = "run `poe run-features --rebuild`"

T = TypeVar("T")


class ScoredPoint(Protocol):
    """An engine's, whichever it is."""

    @property
    def id(self) -> Any: ...
    @property
    def score(self) -> float: ...
    @property
    def payload(self) -> dict[str, Any] | None: ...


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """As itertools.batched, which Python 3.11 lacks."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


class Point(NamedTuple):
    chunk: Chunk
    payload: dict[str, Any]
    vector: list[float]  # empty for a kept chunk: it has one already


class Plan(NamedTuple):
    """What `replace` has to write, once everything has been checked."""

    new: list[Point]
    kept: list[Point]
    stale: list[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.kept or self.stale)


def plan_replace(
    document_ids: Sequence[str],
    new: Sequence[EmbeddedChunk],
    kept: Sequence[Chunk],
    *,
    stored: Mapping[str, set[str]],
    size: int,
) -> Plan:
    """Raises ValueError, before anything is written, when what was given cannot be stored as it is."""
    fresh = {embedded.chunk.id: embedded for embedded in new}
    old = {chunk.id: chunk for chunk in kept if chunk.id not in fresh}
    chunks = [embedded.chunk for embedded in fresh.values()] + list(old.values())
    replaced, present = set(document_ids), {i for ids in stored.values() for i in ids}
    for chunk in chunks:
        if chunk.document_id not in replaced:
            raise ValueError(f"chunk {chunk.id} is of document {chunk.document_id}, which is not being replaced")
    if missing := [i for i in old if i not in present]:
        raise ValueError(f"kept chunks that are not stored: {', '.join(missing[:3])}")
    siblings = Counter(chunk.document_id for chunk in chunks)
    return Plan(
        new=[Point(e.chunk, _payload(e.chunk, siblings), _numbers(e, size)) for e in fresh.values()],
        kept=[Point(chunk, _payload(chunk, siblings), []) for chunk in old.values()],
        stale=sorted(present - fresh.keys() - old.keys()),
    )


def _numbers(embedded: EmbeddedChunk, size: int) -> list[float]:
    vector = embedded.vector
    numbers = [float(x) for x in vector] if isinstance(vector, Sequence) else vector.tolist()
    if len(numbers) != size:
        raise ValueError(f"chunk {embedded.chunk.id}: a vector of {len(numbers)} numbers, the index holds {size}")
    if not all(map(isfinite, numbers)):
        raise ValueError(f"chunk {embedded.chunk.id}: the vector holds NaN or infinity")
    return numbers


def _payload(chunk: Chunk, siblings: Mapping[str, int]) -> dict[str, Any]:
    try:
        fields = json.loads(chunk.model_dump_json(exclude={"id"}))
    except ValueError as error:
        raise ValueError(f"chunk {chunk.id} of {chunk.link}: text that is not valid Unicode ({error})") from None
    return fields | {SIBLINGS: siblings[chunk.document_id]}


def to_chunk(point_id: object, payload: Mapping[str, Any] | None) -> Chunk:
    fields = {key: value for key, value in (payload or {}).items() if key != SIBLINGS}
    return Chunk.model_validate({"id": str(point_id), **fields})


HASH_FIELDS = ["document_id", "content_hash", SIBLINGS]


def whole_hashes(payloads: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """document id -> content hash; "" where a write was cut short, so that nobody takes it for up to date."""
    seen: dict[str, Counter] = defaultdict(Counter)
    for payload in payloads:
        seen[payload["document_id"]][payload["content_hash"], payload[SIBLINGS]] += 1
    whole = {}
    for document_id, kinds in seen.items():
        (content_hash, siblings), found = next(iter(kinds.items()))
        whole[document_id] = content_hash if len(kinds) == 1 and found == siblings else ""
    return whole


def ids_by_document(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, set[str]]:
    """document id -> ids of its chunks, from (point id, payload)."""
    stored: dict[str, set[str]] = {}
    for point_id, payload in rows:
        stored.setdefault(payload["document_id"], set()).add(point_id)
    return stored


def any_of(where: Where | None) -> dict[str, list[str]]:
    """The fields that must equal one of these values."""
    given = {field: getattr(where, field) for field in FILTERS} if where else {}
    return {
        field: [str(v) for v in (value if isinstance(value, tuple) else (value,))]
        for field, value in given.items()
        if value is not None
    }


def between(where: Where | None) -> tuple[datetime | None, datetime | None]:
    """The publication dates, from (inclusive) and to (exclusive)."""
    return (where.published_from, where.published_to) if where else (None, None)


def best_scores(found: Iterable[ScoredPoint], limit: int) -> list[tuple[Any, float]]:
    """(id, score) of the engine's scored points, best first. Equal scores are ordered by id, so that the answer never
    depends on which engine gave it."""
    return sorted(((point.id, point.score) for point in found), key=lambda one: (-one[1], one[0]))[:limit]


def hits(found: Sequence[ScoredPoint], chunks: dict[Any, Chunk], limit: int) -> list[Hit]:
    """The engine's scored points, which hold their payloads. `chunks` remembers those already read, and is added to."""
    payloads = {point.id: point.payload for point in found}
    best = best_scores(found, limit)
    for point_id, _ in best:
        if point_id not in chunks:
            chunks[point_id] = to_chunk(point_id, payloads[point_id])
    return [Hit(chunk=chunks[point_id], score=score) for point_id, score in best]


def facets(
    counts: Callable[[str], dict[str, int]],
    name_of: Callable[[str], str],
    date: Callable[[bool], datetime | None],
) -> Facets:
    """`counts(field)` gives value -> chunks, `name_of(author_id)` a name, `date(latest)` the first or last one."""
    return Facets(
        authors={author_id: name_of(author_id) for author_id in sorted(counts("author_id"))},
        kinds={Kind(kind): chunks for kind, chunks in sorted(counts("kind").items())},
        sources=dict(sorted(counts("source").items())),
        published_from=date(False),
        published_to=date(True),
    )


def check_searches(searches: Sequence[Search], limit: int) -> None:
    if any(search.vector is None and search.text is None for search in searches):
        raise ValueError("search needs a vector, a text or both")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")


def check_vector_sizes(searches: Sequence[Search], spec: IndexSpec) -> None:
    for search in searches:
        if search.vector is not None and len(search.vector) != spec.embedding.size:
            raise EmbeddingMismatch(
                f"asked with a vector of {len(search.vector)} numbers, the index holds {spec.embedding.size} "
                f"({spec.embedding.model_id}); use its embedder"
            )


def one_search(vector: Sequence[float] | None, text: str | None) -> Search:
    return Search(vector=None if vector is None else tuple(float(x) for x in vector), text=text)


def check_readable(wanted: IndexSpec | None, published: IndexInfo | None, place: str) -> None:
    """Raises EmbeddingMismatch that names both, unless what is published may be asked with `wanted`.

    An index that was built before revisions were recorded is read, and the log says once that it wants a rebuild."""
    if wanted is None:
        return
    if published is None:
        raise EmbeddingMismatch(f"{place}: nothing is indexed yet; run `poe run-features`")
    if not wanted.can_read(published.spec):
        raise EmbeddingMismatch(
            f"{place} was built with {published.spec}, and you ask with {wanted}; "
            f"use the same embedder and chunking, or {REBUILD}"
        )
    if published.spec.embedding.revision is None and wanted.embedding.revision is not None:
        _warn_of_unknown_revision(place)


def check_writable(wanted: IndexSpec, published: IndexInfo, place: str) -> None:
    """As `check_readable`, but vectors of a known revision are never mixed with those of an unknown one."""
    check_readable(wanted, published, place)
    if wanted != published.spec:
        raise EmbeddingMismatch(f"{place}: {UNKNOWN_REVISION}; {REBUILD} once. What is published still answers")


UNKNOWN_REVISION = (
    "the index was built before the revision of its embedder was recorded, so nobody can tell whether its vectors are "
    "still those of the model that is there now"
)


@cache  # once for each place
def _warn_of_unknown_revision(place: str) -> None:
    logger.warning("{}: {}; {}", place, UNKNOWN_REVISION, REBUILD)
