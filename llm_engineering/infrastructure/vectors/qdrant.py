"""The vector store on a Qdrant server. See docs/vector-store.md.

    alias       chunks--EMBEDDER--SIZE--HASH           what readers ask; there is one, the published index's
    collection  chunks--EMBEDDER--SIZE--HASH--000007   a version; one without an alias is being built
    llm_twin_meta                                      each version's spec and token, and who is writing

The name without its version is `IndexSpec.name`. An incremental run writes into the published version; every
`replace` is visible when it returns. A rebuild fills a version of its own, and publishing moves the alias.
"""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.errors import StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.bm25 import encode_passage, encode_question, passage_text
from llm_engineering.infrastructure.vectors.server_lock import ServerLock

TIMEOUT = 60  # seconds for one request
BATCH = 256  # points per request
META = "llm_twin_meta"


def connect(url: str, api_key: str | None = None):
    """A client of a server that answers. Raises StoreUnavailable with the address and what to do."""
    from qdrant_client import QdrantClient

    client = QdrantClient(url=url, api_key=api_key, timeout=TIMEOUT, check_compatibility=False)
    with server_trouble(url):
        try:
            client.get_collections()
        except ValueError as error:
            raise StoreUnavailable(f"{url} answers, but not as a Qdrant server does; correct TWIN_VECTORS") from error
    return client


@contextmanager
def server_trouble(address: str) -> Iterator[None]:
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except ResponseHandlingException as error:
        raise StoreUnavailable(
            f"the Qdrant server at {address} does not answer ({error}); start it or correct TWIN_VECTORS, and run again"
        ) from error
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise StoreUnavailable(
                f"the Qdrant server at {address} refuses the key ({error.status_code}); set TWIN_QDRANT_API_KEY"
            ) from error
        said = error.content.decode("utf-8", "replace")[:300]
        raise StoreUnavailable(f"the Qdrant server at {address} said {error.status_code}: {said}") from error


class QdrantVectorStore:
    """`prefix` keeps several platforms apart on one server."""

    def __init__(self, client: Any, *, prefix: str = "") -> None:
        self._server = Server(client, prefix)

    def reader(self, spec: IndexSpec | None = None) -> "QdrantReader":
        return QdrantReader(self._server, spec)

    @contextmanager
    def writer(self, spec: IndexSpec, *, rebuild: bool = False) -> Iterator["QdrantWriter"]:
        with self._locked() as lock:
            yield QdrantWriter(self._server, spec, lock=lock, rebuild=rebuild)

    def erase(self, author_id: str) -> int:
        only = Where(author_id=author_id)
        with self._locked():
            gone: set[str] = set()
            for collection in self._server.versions():
                gone |= {point_id for point_id, _ in self._server.scroll(collection, only, [])}
                self._server.delete_where(collection, only)
            return len(gone)

    @contextmanager
    def _locked(self) -> Iterator[ServerLock]:
        lock = ServerLock(self._server, owner=f"{socket.gethostname()}:{os.getpid()}")
        lock.take()
        try:
            yield lock
        finally:
            lock.release()


class QdrantReader:
    """Asks through the alias, so a newly published version answers at once."""

    def __init__(self, server: "Server", spec: IndexSpec | None) -> None:
        self._server, self._spec = server, spec
        self._facets: tuple[tuple[str, str | None], Facets] | None = None

    def info(self) -> IndexInfo | None:
        published = self._server.published()
        return self._server.info(published) if published else None

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        return self.search_many([points.one_search(vector, text)], where=where, limit=limit)[0]

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        points.check_searches(searches, limit)
        if (collection := self._follow()) is None:
            return [[] for _ in searches]
        if any(search.vector is not None for search in searches):
            points.check_vector_sizes(searches, self._spec or self._server.info(collection).spec)
        return self._server.search(collection, searches, where, limit)

    def facets(self) -> Facets:
        """Asked again when another version is published, or the published one was brought up to date."""
        if (collection := self._follow()) is None:
            return Facets()
        state = (collection, self._server.meta(collection)["token"])
        if self._facets is None or self._facets[0] != state:
            self._facets = (state, self._server.facets(collection))
        return self._facets[1]

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        if collection := self._follow():
            yield from self._server.chunks(collection, where)

    def count(self, where: Where | None = None) -> int:
        collection = self._follow()
        return self._server.count(collection, where) if collection else 0

    def close(self) -> None:
        """The connection is the store's."""

    def _follow(self) -> str | None:
        """The published version; None when there is none and no spec was asked for. Raises EmbeddingMismatch."""
        published = self._server.published()
        if self._spec and (published is None or not self._server.is_of(published, self._spec)):
            info = self._server.info(published) if published else None
            points.check_spec(self._spec, info, self._server.address)
        return published


class QdrantWriter:
    """Writes into the published version, or into a new one when there is none or it is a rebuild."""

    def __init__(self, server: "Server", spec: IndexSpec, *, lock: ServerLock, rebuild: bool) -> None:
        self._server, self._spec, self._lock = server, spec, lock
        self._published = server.published()
        if self._published and not rebuild:
            info = server.info(self._published)
            points.check_spec(spec, info, server.address)
            self._collection, self.token = self._published, info.token
        else:
            self._collection, self.token = self._resume() or self._begin(), None
            self.token = server.meta(self._collection)["token"]
        for other in server.versions():
            if other not in (self._published, self._collection):
                server.drop(other)

    def _resume(self) -> str | None:
        """A version with this spec that was begun and not published."""
        begun = [v for v in self._server.versions() if v != self._published and self._server.is_of(v, self._spec)]
        return next((version for version in reversed(begun) if self._server.has_meta(version)), None)

    def _begin(self) -> str:
        numbers = [int(version.rpartition("--")[2]) for version in self._server.versions()]
        collection = f"{self._server.prefix}{self._spec.name}--{max(numbers, default=0) + 1:06d}"
        self._server.create(collection, self._spec.embedding.size)
        self._server.set_meta(collection, self._spec, None)
        return collection

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        return points.whole_hashes(payload for _, payload in self._scroll(document_ids, points.HASH_FIELDS))

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        stored: dict[str, set[str]] = {}
        for point_id, payload in self._scroll(document_ids, ["document_id"]):
            stored.setdefault(payload["document_id"], set()).add(point_id)
        return stored

    def document_ids(self) -> set[str]:
        rows = self._server.scroll(self._collection, None, ["document_id"])
        return {payload["document_id"] for _, payload in rows}

    def _scroll(self, document_ids: Sequence[str], fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for at in range(0, len(document_ids), 500):
            only = Where(document_id=tuple(document_ids[at : at + 500]))
            yield from self._server.scroll(self._collection, only, fields)

    def replace(self, document_ids: Sequence[str], new: Sequence[EmbeddedChunk], kept: Sequence[Chunk]) -> None:
        plan = points.plan_replace(
            document_ids, new, kept, stored=self.chunk_ids(document_ids), size=self._spec.embedding.size
        )
        self._lock.refresh()
        self._server.write(self._collection, plan)

    def checkpoint(self, token: str | None) -> None:
        self._lock.refresh()
        self._server.set_meta(self._collection, self._spec, token)
        self.token = token

    def publish(self) -> IndexInfo:
        if self._collection != self._published:
            self._server.move_alias(self._published, self._collection)
            if self._published:
                self._server.drop(self._published)
            self._published = self._collection
        return self._server.info(self._collection)


class Server:
    """What is asked of a Qdrant client, in the platform's words. Raises StoreUnavailable."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.client, self.prefix = client, prefix
        self.address = str(client.init_options.get("url") or client.init_options.get("location"))
        self.meta_collection = f"{prefix}{META}"

    # --- versions ---

    def versions(self) -> list[str]:
        """Every collection of ours, oldest first."""
        with server_trouble(self.address):
            names = [collection.name for collection in self.client.get_collections().collections]
        ours = [name for name in names if name.startswith(f"{self.prefix}chunks--")]
        return sorted(ours, key=lambda name: name.rpartition("--")[2])

    def published(self) -> str | None:
        with server_trouble(self.address):
            aliases = self.client.get_aliases().aliases
        ours = [a.collection_name for a in aliases if a.alias_name.startswith(f"{self.prefix}chunks--")]
        return max(ours, default=None, key=lambda name: name.rpartition("--")[2])

    def is_of(self, collection: str, spec: IndexSpec) -> bool:
        return collection.rpartition("--")[0] == f"{self.prefix}{spec.name}"

    def move_alias(self, old: str | None, new: str) -> None:
        """In one operation, so there is never none and never two."""
        from qdrant_client import models as m

        moves: list[Any] = []
        if old:
            moves.append(m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=old.rpartition("--")[0])))
        create = m.CreateAlias(collection_name=new, alias_name=new.rpartition("--")[0])
        moves.append(m.CreateAliasOperation(create_alias=create))
        with server_trouble(self.address):
            self.client.update_collection_aliases(moves)

    def create(self, collection: str, size: int) -> None:
        from qdrant_client import models as m

        with server_trouble(self.address):
            self.client.create_collection(
                collection,
                vectors_config={points.DENSE: m.VectorParams(size=size, distance=m.Distance.COSINE)},
                sparse_vectors_config={points.SPARSE: m.SparseVectorParams(modifier=m.Modifier.IDF)},
            )
            for field in points.KEYWORDS:
                self.client.create_payload_index(collection, field, m.PayloadSchemaType.KEYWORD)
            for field in points.DATES:
                self.client.create_payload_index(collection, field, m.PayloadSchemaType.DATETIME)

    def drop(self, collection: str) -> None:
        from qdrant_client import models as m

        with server_trouble(self.address):
            self.client.delete_collection(collection)
            ids = m.PointIdsList(points=[stable_id("index", collection)])
            self.client.delete(self.meta_collection, ids, wait=True)

    # --- spec and token ---

    def record(self, key: str) -> dict[str, Any] | None:
        with server_trouble(self.address):
            if not self.client.collection_exists(self.meta_collection):
                return None
            found = self.client.retrieve(self.meta_collection, [key])
        return found[0].payload if found else None

    def write_record(self, key: str, payload: dict[str, Any]) -> None:
        from qdrant_client import models as m

        with server_trouble(self.address):
            if not self.client.collection_exists(self.meta_collection):
                self.client.create_collection(self.meta_collection, vectors_config={})
            point = m.PointStruct(id=key, vector={}, payload=payload)
            self.client.upsert(self.meta_collection, [point], wait=True)

    def has_meta(self, collection: str) -> bool:
        return self.record(stable_id("index", collection)) is not None

    def meta(self, collection: str) -> dict[str, Any]:
        record = self.record(stable_id("index", collection))
        if record is None:
            raise StoreCorrupt(f"{self.address}: nothing says what {collection} was built with; {points.REBUILD}")
        return record

    def set_meta(self, collection: str, spec: IndexSpec, token: str | None) -> None:
        payload = {"collection": collection, "spec": json.loads(spec.model_dump_json()), "token": token}
        self.write_record(stable_id("index", collection), payload)

    def info(self, collection: str) -> IndexInfo:
        meta = self.meta(collection)
        return IndexInfo(
            spec=IndexSpec.model_validate(meta["spec"]),
            token=meta["token"],
            chunks=self.count(collection, None),
            version=collection.rpartition("--")[2],
        )

    # --- points ---

    def count(self, collection: str, where: Where | None) -> int:
        with server_trouble(self.address):
            return self.client.count(collection, count_filter=_filter(where), exact=True).count

    def scroll(
        self, collection: str, where: Where | None, fields: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(point id, the given payload fields)"""
        for record in self._records(collection, where, list(fields)):
            yield str(record.id), record.payload or {}

    def chunks(self, collection: str, where: Where | None) -> Iterator[Chunk]:
        """Ordered by id; streams."""
        for record in self._records(collection, where, True):
            yield points.to_chunk(record.id, record.payload)

    def _records(self, collection: str, where: Where | None, payload: list[str] | bool) -> Iterator[Any]:
        offset = None
        while True:
            with server_trouble(self.address):
                records, offset = self.client.scroll(
                    collection, scroll_filter=_filter(where), limit=1000, offset=offset, with_payload=payload
                )
            yield from records
            if offset is None:
                return

    def facets(self, collection: str) -> Facets:
        from qdrant_client import models as m

        def counts(field: str) -> dict[str, int]:
            hits = self.client.facet(collection, field, limit=points.MOST_VALUES, exact=True).hits
            return {str(hit.value): hit.count for hit in hits}

        def first(field: str, where: Where | None, order: Any = None) -> Any:
            records, _ = self.client.scroll(
                collection, scroll_filter=_filter(where), order_by=order, limit=1, with_payload=[field]
            )
            return records[0].payload[field] if records else None

        with server_trouble(self.address):
            return points.facets(
                counts,
                lambda author_id: first("author_name", Where(author_id=author_id)),
                lambda latest: first(
                    "published_at",
                    None,
                    m.OrderBy(key="published_at", direction=m.Direction.DESC if latest else m.Direction.ASC),
                ),
            )

    def search(self, collection: str, searches: Sequence[Search], where: Where | None, limit: int) -> list[list[Hit]]:
        """One list per search, in one request."""
        asked = {i: r for i, s in enumerate(searches) if (r := _request(s, _filter(where), limit + points.SPARE))}
        if not asked:
            return [[] for _ in searches]
        with server_trouble(self.address):
            answers = self.client.query_batch_points(collection, list(asked.values()))
        found = {i: answer.points for i, answer in zip(asked, answers, strict=True)}
        chunks: dict[str, Chunk] = {}  # searches of one batch find the same chunks again and again
        return [points.hits(found.get(i, ()), chunks, limit) for i in range(len(searches))]

    def write(self, collection: str, plan: points.Plan) -> None:
        """New ones first and stale ones last: a reader sees too much for a moment, never too little."""
        from qdrant_client import models as m

        operations: list[Any] = []
        for at in range(0, len(plan.new), BATCH):
            batch = [
                m.PointStruct(
                    id=point.chunk.id,
                    vector={points.DENSE: point.vector, points.SPARSE: _passage(point.chunk)},
                    payload=point.payload,
                )
                for point in plan.new[at : at + BATCH]
            ]
            operations.append(m.UpsertOperation(upsert=m.PointsList(points=batch)))
        for point in plan.kept:
            key = point.chunk.id
            words = m.PointVectors(id=key, vector={points.SPARSE: _passage(point.chunk)})
            operations.append(m.UpdateVectorsOperation(update_vectors=m.UpdateVectors(points=[words])))
            payload = m.SetPayload(payload=point.payload, points=[key])
            operations.append(m.OverwritePayloadOperation(overwrite_payload=payload))
        if plan.stale:
            operations.append(m.DeleteOperation(delete=m.PointIdsList(points=plan.stale)))
        with server_trouble(self.address):
            for at in range(0, len(operations), BATCH):
                self.client.batch_update_points(collection, operations[at : at + BATCH], wait=True)

    def delete_where(self, collection: str, where: Where) -> None:
        from qdrant_client import models as m

        with server_trouble(self.address):
            self.client.delete(collection, m.FilterSelector(filter=_filter(where)), wait=True)


def _request(search: Search, only: Any, wanted: int) -> Any:
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


def _filter(where: Where | None) -> Any:
    from qdrant_client import models as m

    must: list[Any] = [
        m.FieldCondition(key=field, match=m.MatchAny(any=values)) for field, values in points.any_of(where).items()
    ]
    start, stop = points.between(where)
    if start or stop:
        must.append(m.FieldCondition(key="published_at", range=m.DatetimeRange(gte=start, lt=stop)))
    return m.Filter(must=must) if must else None
