"""A Qdrant server: what is asked of it, in the platform's words, and what its errors mean."""

import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_engineering.domain.chunks import Chunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import ConfigError, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.domain.text import redacted_url
from llm_engineering.infrastructure.vectors import points, qdrant_requests

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client import models as m

TIMEOUT = 60  # seconds for one request
META = "llm_twin_meta"
_VERSION = re.compile(r"chunks--.+--\d{6,}")  # nothing else on the server is ours to read or to drop


def connect(url: str, api_key: str | None = None) -> "QdrantClient":
    """A client of a server that answers. Raises ConfigError when `url` is no address, StoreUnavailable with the
    address and what to do when nothing there answers as Qdrant does."""
    from qdrant_client import QdrantClient

    try:
        if not urlsplit(url).hostname:
            raise ValueError
        client = QdrantClient(url=url, api_key=api_key, timeout=TIMEOUT, check_compatibility=False)
    except ValueError:  # its reason may quote a password
        raise ConfigError(f"TWIN_VECTORS={redacted_url(url)}: no usable address; write http://HOST:6333") from None
    try:
        with server_error(redacted_url(url)):
            client.get_collections()
    except StoreUnavailable:
        client.close()
        raise
    return client


@contextmanager
def server_error(address: str) -> Generator[None]:
    from pydantic import ValidationError
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    no_qdrant = f"{address} answers, but not as a Qdrant server does; correct TWIN_VECTORS"
    try:
        yield
    except ResponseHandlingException as error:
        if isinstance(error.source, ValidationError):
            raise StoreUnavailable(no_qdrant) from error
        raise StoreUnavailable(
            f"the Qdrant server at {address} does not answer ({error}); start it or correct TWIN_VECTORS, and run again"
        ) from error
    except ResourceExhaustedResponse as error:
        raise StoreUnavailable(
            f"the Qdrant server at {address} is asked too often; run again in {error.retry_after_s} s"
        ) from error
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise StoreUnavailable(
                f"the Qdrant server at {address} refuses the key ({error.status_code}); set TWIN_QDRANT_API_KEY"
            ) from error
        reason = error.content.decode("utf-8", "replace")[:300]
        raise StoreUnavailable(f"the Qdrant server at {address} said {error.status_code}: {reason}") from error
    except json.JSONDecodeError as error:
        raise StoreUnavailable(no_qdrant) from error


class Server:
    """What is asked of a Qdrant client, in the platform's words. Raises StoreUnavailable."""

    def __init__(self, client: "QdrantClient", prefix: str) -> None:
        self.client, self.prefix = client, prefix
        self.address = redacted_url(str(client.init_options.get("url") or client.init_options.get("location")))
        self.meta_collection = f"{prefix}{META}"

    # --- versions ---

    def versions(self) -> list[str]:
        """Every collection of ours, oldest first."""
        with server_error(self.address):
            names = [collection.name for collection in self.client.get_collections().collections]
        return sorted(filter(self._is_ours, names), key=_number)

    def published(self) -> str | None:
        with server_error(self.address):
            aliases = self.client.get_aliases().aliases
        ours = [a.collection_name for a in aliases if self._is_ours(a.collection_name)]
        return max(ours, key=_number) if ours else None

    def _is_ours(self, collection: str) -> bool:
        return collection.startswith(self.prefix) and bool(_VERSION.fullmatch(collection, len(self.prefix)))

    def is_of(self, collection: str, spec: IndexSpec) -> bool:
        return collection.rpartition("--")[0] == f"{self.prefix}{spec.name}"

    def create_version(self, spec: IndexSpec) -> str:
        """An empty one, with a number above all others; nothing is said of it yet (`set_meta`)."""
        numbers = [int(_number(version)) for version in self.versions()]
        collection = f"{self.prefix}{spec.name}--{max(numbers, default=0) + 1:06d}"
        self.create(collection, spec.embedding.size)
        return collection

    def create(self, collection: str, size: int) -> None:
        from qdrant_client import models as m

        with server_error(self.address):
            self.client.create_collection(
                collection,
                vectors_config={points.DENSE: m.VectorParams(size=size, distance=m.Distance.COSINE)},
                sparse_vectors_config={points.SPARSE: m.SparseVectorParams(modifier=m.Modifier.IDF)},
            )
            for field in points.KEYWORDS:
                self.client.create_payload_index(collection, field, m.PayloadSchemaType.KEYWORD)
            for field in points.DATES:
                self.client.create_payload_index(collection, field, m.PayloadSchemaType.DATETIME)

    def move_alias(self, old: str | None, new: str) -> None:
        """In one operation, so there is never none and never two."""
        from qdrant_client import models as m

        moves: list[m.DeleteAliasOperation | m.CreateAliasOperation] = []
        if old:
            moves.append(m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=old.rpartition("--")[0])))
        create = m.CreateAlias(collection_name=new, alias_name=new.rpartition("--")[0])
        moves.append(m.CreateAliasOperation(create_alias=create))
        with server_error(self.address):
            self.client.update_collection_aliases(moves)

    def drop(self, collection: str) -> None:
        from qdrant_client import models as m

        with server_error(self.address):
            self.client.delete_collection(collection)
            ids = m.PointIdsList(points=[stable_id("index", collection)])
            self.client.delete(self.meta_collection, ids, wait=True)

    # --- spec and token ---

    def record(self, key: str) -> dict[str, Any] | None:
        with server_error(self.address):
            if not self.client.collection_exists(self.meta_collection):
                return None
            records = self.client.retrieve(self.meta_collection, [key])
        return records[0].payload if records else None

    def write_record(self, key: str, payload: dict[str, Any]) -> None:
        from qdrant_client import models as m

        with server_error(self.address):
            if not self.client.collection_exists(self.meta_collection):
                self.client.create_collection(self.meta_collection, vectors_config={})
            point = m.PointStruct(id=key, vector={}, payload=payload)
            self.client.upsert(self.meta_collection, [point], wait=True)

    def has_meta(self, collection: str) -> bool:
        return self.record(stable_id("index", collection)) is not None

    def meta(self, collection: str) -> dict[str, Any]:
        """Raises StoreCorrupt."""
        record = self.record(stable_id("index", collection))
        if record is None:
            raise StoreCorrupt(f"{self.address}: nothing says what {collection} was built with; {points.REBUILD}")
        return record

    def set_meta(
        self, collection: str, spec: IndexSpec, token: str | None, warehouse: WarehouseRef | None = None
    ) -> None:
        payload = {
            "collection": collection,
            "spec": json.loads(spec.model_dump_json()),
            "token": token,
            "warehouse": warehouse and warehouse.model_dump(),
        }
        self.write_record(stable_id("index", collection), payload)

    def info(self, collection: str) -> IndexInfo:
        meta = self.meta(collection)
        return IndexInfo(
            spec=IndexSpec.model_validate(meta["spec"]),
            token=meta["token"],
            chunks=self.count(collection, None),
            version=_number(collection),
            warehouse=WarehouseRef.model_validate(known) if (known := meta.get("warehouse")) else None,
        )

    # --- points ---

    def count(self, collection: str, where: Where | None) -> int:
        with server_error(self.address):
            return self.client.count(collection, count_filter=qdrant_requests.condition(where), exact=True).count

    def scroll(
        self, collection: str, where: Where | None, fields: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(point id, the given payload fields)"""
        for record in self._records(collection, where, list(fields)):
            yield str(record.id), record.payload or {}

    def document_ids(self, collection: str) -> set[str]:
        return {payload["document_id"] for _, payload in self.scroll(collection, None, ["document_id"])}

    def chunks(self, collection: str, where: Where | None) -> Iterator[Chunk]:
        """Ordered by id; streams."""
        for record in self._records(collection, where, True):
            yield points.to_chunk(record.id, record.payload)

    def _records(
        self, collection: str, where: Where | None, payload: list[str] | bool, *, vectors: bool = False
    ) -> "Iterator[m.Record]":
        offset = None
        while True:
            with server_error(self.address):
                records, offset = self.client.scroll(
                    collection,
                    scroll_filter=qdrant_requests.condition(where),
                    limit=1000,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=vectors,
                )
            yield from records
            if offset is None:
                return

    def facets(self, collection: str) -> Facets:
        from qdrant_client import models as m

        def counts(field: str) -> dict[str, int]:
            hits = self.client.facet(collection, field, limit=points.MOST_VALUES, exact=True).hits
            return {str(hit.value): hit.count for hit in hits}

        def first(field: str, where: Where | None, order: m.OrderBy | None = None) -> str | None:
            records, _ = self.client.scroll(
                collection,
                scroll_filter=qdrant_requests.condition(where),
                order_by=order,
                limit=1,
                with_payload=[field],
            )
            return (records[0].payload or {}).get(field) if records else None

        def date(latest: bool) -> datetime | None:
            direction = m.Direction.DESC if latest else m.Direction.ASC
            found = first("published_at", None, m.OrderBy(key="published_at", direction=direction))
            return datetime.fromisoformat(found) if found else None

        with server_error(self.address):
            return points.facets(
                counts, lambda author_id: first("author_name", Where(author_id=author_id)) or author_id, date
            )

    def search(self, collection: str, searches: Sequence[Search], where: Where | None, limit: int) -> list[list[Hit]]:
        """One list per search, in one request."""
        wanted = limit + points.SPARE
        queries = {i: query for i, one in enumerate(searches) if (query := qdrant_requests.query(one, where, wanted))}
        if not queries:
            return [[] for _ in searches]
        with server_error(self.address):
            answers = self.client.query_batch_points(collection, list(queries.values()))
        found = {i: answer.points for i, answer in zip(queries, answers, strict=True)}
        chunks: dict[Any, Chunk] = {}  # searches of one batch find the same chunks again and again
        return [points.hits(found.get(i, ()), chunks, limit) for i in range(len(searches))]

    def write(self, collection: str, plan: points.Plan) -> None:
        with server_error(self.address):
            for operations in qdrant_requests.writes(plan):
                self.client.batch_update_points(collection, operations, wait=True)

    def delete_where(self, collection: str, where: Where) -> None:
        from qdrant_client import models as m

        only = qdrant_requests.condition(where)
        if only is None:
            raise ValueError("a condition is needed: without one everything would be deleted")
        with server_error(self.address):
            self.client.delete(collection, m.FilterSelector(filter=only), wait=True)

    def copy(self, source: str, target: str) -> Iterator[int]:
        """Points and vectors, batch after batch: how many were copied."""
        from qdrant_client import models as m

        for batch in points.batched(self._records(source, None, True, vectors=True), qdrant_requests.BATCH):
            records = [m.PointStruct(id=one.id, vector=one.vector or {}, payload=one.payload) for one in batch]
            with server_error(self.address):
                self.client.upsert(target, records, wait=True)
            yield len(records)


def _number(collection: str) -> str:
    return collection.rpartition("--")[2]
