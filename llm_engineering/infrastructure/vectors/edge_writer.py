"""Writing an embedded index: a version of one's own, that goes on where a stopped run left it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import StoreCorrupt
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.vectors import index_versions, points
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine, seal
from llm_engineering.infrastructure.vectors.index_versions import Manifest


class EdgeWriter:
    """Reads the published version until there is something to write; then writes a copy, or an empty new one.

    A version that is not published yet is gone on with when it was begun from what is published now, with the same
    spec; otherwise it is removed.
    """

    def __init__(
        self,
        root: Path,
        spec: IndexSpec,
        *,
        rebuild: bool,
        warehouse: WarehouseRef | None,
        min_free_bytes: int,
        seal_every: int,
    ) -> None:
        self._root, self._spec, self._min_free, self._seal_every = root, spec, min_free_bytes, seal_every
        self._unsealed = 0  # chunks written since the engine was opened or sealed
        self._next = index_versions.next_version(root)  # before anything is removed: a name is never given twice
        self._live = None if rebuild else index_versions.current(root)
        self._live_manifest = index_versions.read_manifest(root / self._live) if self._live else None
        if self._live and self._live_manifest:
            points.check_writable(spec, self._live_manifest.info(self._live), str(root))
        self._view: EdgeEngine | None = None  # of the published version
        self._staging = ""  # the version that is being written
        self._engine: EdgeEngine | None = None  # of that version
        self.token = self._live_manifest.token if self._live_manifest else None
        self._warehouse = warehouse or (self._live_manifest.warehouse if self._live_manifest else None)
        self._resume()

    def _resume(self) -> None:
        published = self._published()
        for version in index_versions.versions(self._root):
            if published is not None and int(version) <= int(published):
                continue
            if self._engine is None and self._can_resume(version):
                continue
            index_versions.remove(self._root / version)

    def _published(self) -> str | None:
        try:
            return index_versions.current(self._root)
        except StoreCorrupt:  # this is the rebuild that mends it; nothing that lies there can be trusted
            (self._root / "CURRENT").unlink()
            for version in index_versions.versions(self._root):
                index_versions.remove(self._root / version)
            return None

    def _can_resume(self, version: str) -> bool:
        try:
            manifest = index_versions.read_manifest(self._root / version)
            if manifest.spec != self._spec or manifest.base != self._live:
                return False
            self._engine = EdgeEngine.load(index_versions.engine_folder(self._root, version))
        except StoreCorrupt:  # the unpublished copy is damaged: begin again from what is published
            return False
        self._staging, self.token = version, manifest.token
        return True

    # --- what is stored ---

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        return points.whole_hashes(payload for _, payload in self._scroll(document_ids, points.HASH_FIELDS))

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        return points.ids_by_document(self._scroll(document_ids, ["document_id"]))

    def document_ids(self) -> set[str]:
        engine = self._readable()
        return engine.document_ids() if engine else set()

    def _scroll(self, document_ids: Sequence[str], fields: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        if engine := self._readable():
            for some in points.batched(document_ids, points.DOCUMENTS_TOGETHER):
                yield from engine.scroll(Where(document_id=tuple(some)), fields)

    def _readable(self) -> EdgeEngine | None:
        if self._engine is None and self._view is None and self._live:
            self._view = EdgeEngine.view(index_versions.engine_folder(self._root, self._live))
        return self._engine or self._view

    # --- writing ---

    def replace(self, document_ids: Sequence[str], new: Sequence[EmbeddedChunk], kept: Sequence[Chunk]) -> None:
        plan = points.plan_replace(
            document_ids, new, kept, stored=self.chunk_ids(document_ids), size=self._spec.embedding.size
        )
        if not plan:
            return
        index_versions.check_space(self._root, 0, self._min_free)
        engine = self._writable()
        engine.upsert(plan.new)
        engine.rewrite(plan.kept)
        engine.delete(plan.stale)
        self._unsealed += len(plan.new) + len(plan.kept)

    def checkpoint(self, token: str | None) -> None:
        self.token = token
        if self._engine is not None:
            self._engine.flush()
            self._write_manifest(self._engine)
            self._seal_if_large(self._engine)
        elif not (self._live and self._live_manifest):
            self._writable()
        elif (token, self._warehouse) != (self._live_manifest.token, self._live_manifest.warehouse):
            # nothing was written, so what is published is complete up to here
            self._live_manifest = self._live_manifest.model_copy(update={"token": token, "warehouse": self._warehouse})
            index_versions.write_manifest(self._root / self._live, self._live_manifest)

    def _seal_if_large(self, engine: EdgeEngine) -> None:
        if self._unsealed >= self._seal_every:
            self._engine = None
            engine.close()
            seal(engine.folder)
            self._engine, self._unsealed = EdgeEngine.load(engine.folder), 0

    def publish(self) -> IndexInfo:
        if self._live and self._live_manifest and self._engine is None:
            return self._live_manifest.info(self._live)
        engine = self._writable()
        manifest = Manifest(spec=self._spec, token=self.token, base=self._live, warehouse=self._warehouse)
        info = publish(self._root, self._staging, engine, manifest)
        self._engine = None
        self._next = index_versions.next_version(self._root)
        self._live, self._live_manifest = info.version, manifest.model_copy(update={"chunks": info.chunks})
        _keep_two(self._root, info.version)
        return info

    def _writable(self) -> EdgeEngine:
        if self._engine is None:
            self._staging = self._next
            folder = index_versions.engine_folder(self._root, self._staging)
            if self._live:
                self._close_view()
                live = index_versions.engine_folder(self._root, self._live)
                index_versions.check_space(self._root, index_versions.stored_bytes(live), self._min_free)
                index_versions.copy_tree(live, folder)
                self._engine = EdgeEngine.load(folder)
            else:
                index_versions.check_space(self._root, 0, self._min_free)
                self._engine = EdgeEngine.create(folder, self._spec.embedding.size)
                self._engine.flush()
            self._write_manifest(self._engine)
        return self._engine

    def _write_manifest(self, engine: EdgeEngine) -> None:
        manifest = Manifest(
            spec=self._spec,
            token=self.token,
            chunks=engine.count(),
            base=self._live,
            warehouse=self._warehouse,
        )
        index_versions.write_manifest(self._root / self._staging, manifest)

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
        self._view = None

    def close(self) -> None:
        self._close_view()
        if self._engine is not None:
            self._engine.close()
        self._engine = None


def publish(root: Path, version: str, engine: EdgeEngine, manifest: Manifest) -> IndexInfo:
    """Close the engine of `version`, and make that version what readers open next."""
    engine.flush()
    chunks = engine.count()
    engine.close()
    EdgeEngine.view(engine.folder).close()  # the first opening folds the journals: from here on nothing is written
    return index_versions.publish(root, version, manifest.model_copy(update={"chunks": chunks}))


def _keep_two(root: Path, published: str) -> None:
    """The published version, and the one before it, which a reader may be opening at this moment."""
    for version in index_versions.versions(root)[:-2]:
        if version != published:
            index_versions.remove(root / version)
