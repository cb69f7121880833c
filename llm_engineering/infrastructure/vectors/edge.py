"""The embedded vector store: Qdrant Edge in versioned folders. See docs/vector-store.md."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from llm_engineering.domain.chunks import IndexSpec, Where
from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import StoreCorrupt
from llm_engineering.infrastructure.vectors import index_versions
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine
from llm_engineering.infrastructure.vectors.edge_reader import EdgeReader
from llm_engineering.infrastructure.vectors.edge_writer import EdgeWriter, publish

SEAL_EVERY = 10_000  # chunks; each takes about 4 kB of memory until it is sealed, most of it BM25 postings
MIN_FREE_BYTES = 100_000_000  # the engine writes through memory maps: on a full disk it would be killed, not told


class EdgeVectorStore:
    """Readers see the published version and share it; the one writer works on a copy of its own."""

    def __init__(self, root: Path, *, min_free_bytes: int = MIN_FREE_BYTES, seal_every: int = SEAL_EVERY) -> None:
        self.root, self._min_free, self._seal_every = root, min_free_bytes, seal_every

    def reader(self, spec: IndexSpec | None = None) -> EdgeReader:
        return EdgeReader(self.root, spec)

    @contextmanager
    def writer(
        self, spec: IndexSpec, *, rebuild: bool = False, warehouse: WarehouseRef | None = None
    ) -> Generator[EdgeWriter]:
        with index_versions.lock(self.root):
            writer = EdgeWriter(
                self.root,
                spec,
                rebuild=rebuild,
                warehouse=warehouse,
                min_free_bytes=self._min_free,
                seal_every=self._seal_every,
            )
            try:
                yield writer
            finally:
                writer.close()

    def document_ids(self) -> set[str]:
        with closing(self.reader()) as reader:
            return reader.document_ids()

    def erase(self, author_id: str) -> int:
        """Writes a new version without the author and removes every other one, so that no byte of theirs is left."""
        with index_versions.lock(self.root):
            live = index_versions.current(self.root)
            erased = set().union(
                *(self._ids_of(version, author_id, live) for version in index_versions.versions(self.root))
            )
            published = self._publish_without(author_id, live) if live else None
            for version in index_versions.versions(self.root):
                if version != published:
                    index_versions.remove(self.root / version)
            return len(erased)

    def _ids_of(self, version: str, author_id: str, live: str | None) -> set[str]:
        """Of the published version, and of one that is not published yet."""
        if live is not None and int(version) < int(live):
            return set()
        try:
            open_engine = EdgeEngine.view if version == live else EdgeEngine.load
            engine = open_engine(index_versions.engine_folder(self.root, version))
        except StoreCorrupt:
            if version == live:
                raise
            return set()  # it is removed in any case
        ids = {point_id for point_id, _ in engine.scroll(Where(author_id=author_id), [])}
        engine.close()
        return ids

    def _publish_without(self, author_id: str, live: str) -> str:
        manifest = index_versions.read_manifest(self.root / live)
        version = index_versions.next_version(self.root)
        index_versions.check_space(self.root, index_versions.stored_bytes(self.root / live), self._min_free)
        source = EdgeEngine.view(index_versions.engine_folder(self.root, live))
        target = EdgeEngine.create(index_versions.engine_folder(self.root, version), manifest.spec.embedding.size)
        source.copy_without(author_id, target)
        source.close()
        return publish(self.root, version, target, manifest).version
