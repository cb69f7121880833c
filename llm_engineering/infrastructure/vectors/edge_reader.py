"""Reading an embedded index while others publish the next version of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from llm_engineering.domain.chunks import Chunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.errors import StoreCorrupt
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.vectors import index_versions, points
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine


class _OpenVersion(NamedTuple):
    version: str
    spec: IndexSpec
    engine: EdgeEngine


class EdgeReader:
    """Opens what CURRENT names, and opens the next version when CURRENT moves."""

    def __init__(self, root: Path, spec: IndexSpec | None) -> None:
        self._root, self._spec = root, spec
        self._lock = Lock()  # the engine holds the interpreter lock anyway
        self._open: _OpenVersion | None = None
        self._facets: Facets | None = None

    def info(self) -> IndexInfo | None:
        while (version := index_versions.current(self._root)) is not None:
            try:
                return index_versions.read_manifest(self._root / version).info(version)
            except StoreCorrupt:
                if not index_versions.current_moved(self._root, version):
                    raise
        return None

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        return self.search_many([points.one_search(vector, text)], where=where, limit=limit)[0]

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        points.check_searches(searches, limit)
        with self._lock:
            published = self._follow()
            if published is None:
                return [[] for _ in searches]
            points.check_vector_sizes(searches, published.spec)
            return published.engine.search(searches, where, limit)

    def facets(self) -> Facets:
        with self._lock:
            published = self._follow()
            if published is None:
                return Facets()
            if self._facets is None:
                self._facets = published.engine.facets()
            return self._facets

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        """Of the version that is published when it begins, whatever is published meanwhile."""
        with self._lock:
            published = self._follow()
            own = EdgeEngine.view(published.engine.folder) if published else None
        if own is None:
            return
        try:
            yield from own.chunks(where)
        finally:
            own.close()

    def document_ids(self) -> set[str]:
        with self._lock:
            published = self._follow()
            return published.engine.document_ids() if published else set()

    def count(self, where: Where | None = None) -> int:
        with self._lock:
            published = self._follow()
            return published.engine.count(where) if published else 0

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.engine.close()
            self._open = None

    def _follow(self) -> _OpenVersion | None:
        """The published version; None when there is none and no spec was wanted. Raises EmbeddingMismatch."""
        while (version := index_versions.current(self._root)) not in (None, self._open and self._open.version):
            try:
                self._replace(self._opened(version))
            except StoreCorrupt:
                if not index_versions.current_moved(self._root, version):  # else it was removed while being opened
                    raise
        if self._open is None:
            points.check_readable(self._spec, None, str(self._root))
        return self._open

    def _opened(self, version: str) -> _OpenVersion:
        manifest = index_versions.read_manifest(self._root / version)
        points.check_readable(self._spec, manifest.info(version), str(self._root))
        engine = EdgeEngine.view(index_versions.engine_folder(self._root, version))
        if (stored := engine.count()) != manifest.chunks:
            engine.close()
            raise StoreCorrupt(
                f"{engine.folder} holds {stored} chunks where {manifest.chunks} were published; {points.REBUILD}"
            )
        return _OpenVersion(version, manifest.spec, engine)

    def _replace(self, fresh: _OpenVersion) -> None:
        old, self._open, self._facets = self._open, fresh, None
        if old is not None:
            old.engine.close()
