"""The vector store on a Qdrant server. See docs/vector-store.md.

    alias       chunks--EMBEDDER--SIZE--HASH           what readers ask; there is one, the published index's
    collection  chunks--EMBEDDER--SIZE--HASH--000007   a version; one without an alias is being built
    llm_twin_meta                                      each version's spec and token, and who is writing

The name without its version is `IndexSpec.name`. An incremental run writes into the published version; every
`replace` is visible when it returns. A rebuild fills a version of its own, and publishing moves the alias.
"""

import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.qdrant_server import Server, connect
from llm_engineering.infrastructure.vectors.server_lock import ServerLock

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

__all__ = ["QdrantReader", "QdrantVectorStore", "QdrantWriter", "connect"]

T = TypeVar("T")


class QdrantVectorStore:
    """`prefix` keeps several platforms apart on one server."""

    def __init__(self, client: "QdrantClient", *, prefix: str = "") -> None:
        self._server = Server(client, prefix)

    def reader(self, spec: IndexSpec | None = None) -> "QdrantReader":
        return QdrantReader(self._server, spec)

    @contextmanager
    def writer(
        self, spec: IndexSpec, *, rebuild: bool = False, warehouse: WarehouseRef | None = None
    ) -> Generator["QdrantWriter"]:
        with self._locked() as lock:
            yield QdrantWriter(self._server, spec, lock=lock, rebuild=rebuild, warehouse=warehouse)

    def document_ids(self) -> set[str]:
        return self.reader().document_ids()

    def erase(self, author_id: str) -> int:
        """Deletes the author everywhere, then copies what is published into a new version and drops every other one: a
        server keeps deleted points in its files until it happens to rewrite them, but no file of a dropped version."""
        only = Where(author_id=author_id)
        with self._locked() as lock:
            erased: set[str] = set()
            for collection in self._server.versions():
                erased |= {point_id for point_id, _ in self._server.scroll(collection, only, [])}
                self._server.delete_where(collection, only)
            live = self._server.published()
            published = self._publish_copy(live, lock) if live else None
            for collection in self._server.versions():
                if collection != published:
                    self._server.drop(collection)
            return len(erased)

    def _publish_copy(self, live: str, lock: ServerLock) -> str:
        info = self._server.info(live)
        fresh = self._server.create_version(info.spec)
        for _ in self._server.copy(live, fresh):
            lock.refresh()
        self._server.set_meta(fresh, info.spec, info.token, info.warehouse)
        self._server.move_alias(live, fresh)
        return fresh

    @contextmanager
    def _locked(self) -> Generator[ServerLock]:
        lock = ServerLock(self._server, owner=f"{socket.gethostname()}:{os.getpid()}")
        lock.take()
        try:
            yield lock
        finally:
            lock.release()


class QdrantReader:
    """Looks up what is published for every question, so a newly published version answers at once."""

    def __init__(self, server: Server, spec: IndexSpec | None) -> None:
        self._server, self._spec = server, spec
        self._facets: tuple[tuple[str, str | None], Facets] | None = None

    def info(self) -> IndexInfo | None:
        return self._of_published(self._server.published, self._server.info, None)

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        return self.search_many([points.one_search(vector, text)], where=where, limit=limit)[0]

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        points.check_searches(searches, limit)

        def search(collection: str) -> list[list[Hit]]:
            if any(search.vector is not None for search in searches):
                points.check_vector_sizes(searches, self._spec or self._server.info(collection).spec)
            return self._server.search(collection, searches, where, limit)

        return self._of_published(self._follow, search, [[] for _ in searches])

    def facets(self) -> Facets:
        """Asked again when another version is published, or the published one was brought up to date."""

        def remembered(collection: str) -> Facets:
            state, known = (collection, self._server.meta(collection)["token"]), self._facets
            if known is None or known[0] != state:
                self._facets = known = (state, self._server.facets(collection))
            return known[1]

        return self._of_published(self._follow, remembered, Facets())

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        """Raises StoreUnavailable when the version is replaced by another one meanwhile."""
        if collection := self._follow():
            yield from self._server.chunks(collection, where)

    def document_ids(self) -> set[str]:
        return self._of_published(self._follow, self._server.document_ids, set())

    def count(self, where: Where | None = None) -> int:
        return self._of_published(self._follow, lambda collection: self._server.count(collection, where), 0)

    def close(self) -> None:
        """The connection is the store's."""

    def _of_published(self, published: Callable[[], str | None], read: Callable[[str], T], nothing: T) -> T:
        """`read` of the published version; once more of the next one when that was replaced, and dropped, meanwhile."""
        while (collection := published()) is not None:
            try:
                return read(collection)
            except StoreUnavailable:
                if self._server.published() == collection:
                    raise
        return nothing

    def _follow(self) -> str | None:
        """The published version; None when there is none and no spec was wanted. Raises EmbeddingMismatch."""
        published = self._server.published()
        if self._spec and (published is None or not self._server.is_of(published, self._spec)):
            points.check_readable(self._spec, self.info(), self._server.address)
            return self._server.published()  # the right one was published between the two looks
        return published


class QdrantWriter:
    """Writes into the published version, or into a new one when there is none or it is a rebuild."""

    def __init__(
        self, server: Server, spec: IndexSpec, *, lock: ServerLock, rebuild: bool, warehouse: WarehouseRef | None
    ) -> None:
        self._server, self._spec, self._lock, self._warehouse = server, spec, lock, warehouse
        self._published = server.published()
        if self._published and not rebuild:
            info = server.info(self._published)
            points.check_writable(spec, info, server.address)
            self._collection, self.token = self._published, info.token
            self._warehouse = warehouse or info.warehouse
        else:
            self._collection = self._resume() or self._begin()
            self.token = server.meta(self._collection)["token"]
        for other in server.versions():
            if other not in (self._published, self._collection):
                server.drop(other)

    def _resume(self) -> str | None:
        """A version with this spec that was begun and not published."""
        begun = [v for v in self._server.versions() if v != self._published and self._server.is_of(v, self._spec)]
        return next((version for version in reversed(begun) if self._server.has_meta(version)), None)

    def _begin(self) -> str:
        collection = self._server.create_version(self._spec)
        self._server.set_meta(collection, self._spec, None, self._warehouse)
        return collection

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        return points.whole_hashes(payload for _, payload in self._scroll(document_ids, points.HASH_FIELDS))

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        return points.ids_by_document(self._scroll(document_ids, ["document_id"]))

    def document_ids(self) -> set[str]:
        return self._server.document_ids(self._collection)

    def _scroll(self, document_ids: Sequence[str], fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for some in points.batched(document_ids, points.DOCUMENTS_TOGETHER):
            yield from self._server.scroll(self._collection, Where(document_id=tuple(some)), fields)

    def replace(self, document_ids: Sequence[str], new: Sequence[EmbeddedChunk], kept: Sequence[Chunk]) -> None:
        plan = points.plan_replace(
            document_ids, new, kept, stored=self.chunk_ids(document_ids), size=self._spec.embedding.size
        )
        self._lock.refresh()
        self._server.write(self._collection, plan)

    def checkpoint(self, token: str | None) -> None:
        self._lock.refresh()
        self._server.set_meta(self._collection, self._spec, token, self._warehouse)
        self.token = token

    def publish(self) -> IndexInfo:
        self._lock.refresh()
        if self._collection != self._published:
            self._server.move_alias(self._published, self._collection)
            if self._published:
                self._server.drop(self._published)
            self._published = self._collection
        return self._server.info(self._collection)
