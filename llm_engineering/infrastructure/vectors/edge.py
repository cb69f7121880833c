"""The embedded vector store: Qdrant Edge in versioned folders. See docs/vector-store.md."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.errors import StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.vectors import index_versions, points
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine, seal
from llm_engineering.infrastructure.vectors.index_versions import Manifest

SEAL_EVERY = 10_000  # chunks; each takes about 4 kB of memory until it is sealed, most of it BM25 postings
MIN_FREE_BYTES = 100_000_000  # the engine writes through memory maps: on a full disk it would be killed, not told


class EdgeVectorStore:
    """Readers see the published version and share it; the one writer works on a copy of its own."""

    def __init__(self, root: Path, *, min_free_bytes: int = MIN_FREE_BYTES, seal_every: int = SEAL_EVERY) -> None:
        self.root, self._min_free, self._seal_every = root, min_free_bytes, seal_every

    def reader(self, spec: IndexSpec | None = None) -> "EdgeReader":
        return EdgeReader(self.root, spec)

    @contextmanager
    def writer(self, spec: IndexSpec, *, rebuild: bool = False) -> Iterator["EdgeWriter"]:
        with index_versions.lock(self.root):
            writer = EdgeWriter(
                self.root, spec, rebuild=rebuild, min_free_bytes=self._min_free, seal_every=self._seal_every
            )
            try:
                yield writer
            finally:
                writer.close()

    def erase(self, author_id: str) -> int:
        """Writes a new version without the author and removes every other one, so that no byte of theirs is left."""
        with index_versions.lock(self.root):
            live = index_versions.current(self.root)
            gone = {i for version in index_versions.versions(self.root) for i in self._ids_of(version, author_id, live)}
            published = self._publish_without(author_id, live) if live else None
            for version in index_versions.versions(self.root):
                if version != published:
                    index_versions.remove(self.root / version)
            return len(gone)

    def _ids_of(self, version: str, author_id: str, live: str | None) -> set[str]:
        """Of the published version, and of one that is not published yet."""
        if live is not None and int(version) < int(live):
            return set()
        try:
            shard = (EdgeEngine.view if version == live else EdgeEngine.load)(self.root / version / "shard")
        except StoreCorrupt:
            if version == live:
                raise
            return set()  # it is removed in any case
        ids = {i for i, _ in shard.scroll(Where(author_id=author_id), [])}
        shard.close()
        return ids

    def _publish_without(self, author_id: str, live: str) -> str:
        manifest = index_versions.read_manifest(self.root / live)
        version = self.root / index_versions.next_version(self.root)
        _check_space(self.root, index_versions.stored_bytes(self.root / live), self._min_free)
        source = EdgeEngine.view(self.root / live / "shard")
        target = EdgeEngine.create(version / "shard", manifest.spec.embedding.size)
        source.copy_without(author_id, target)
        source.close()
        return _publish(self.root, version.name, target, manifest).version


class EdgeReader:
    """Opens what CURRENT names, and opens the next version when CURRENT moves."""

    def __init__(self, root: Path, spec: IndexSpec | None) -> None:
        self._root, self._spec = root, spec
        self._lock = Lock()  # the engine holds the interpreter lock anyway
        self._version: str | None = None
        self._shard: EdgeEngine | None = None
        self._facets: Facets | None = None

    def info(self) -> IndexInfo | None:
        while (version := index_versions.current(self._root)) is not None:
            try:
                return _info(version, index_versions.read_manifest(self._root / version))
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
            shard = self._follow()
            if shard is None:
                return [[] for _ in searches]
            points.check_vector_sizes(searches, self._open_spec)
            return shard.search(searches, where, limit)

    def facets(self) -> Facets:
        with self._lock:
            shard = self._follow()
            if shard is None:
                return Facets()
            if self._facets is None:
                self._facets = shard.facets()
            return self._facets

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        """Of the version that is published when it begins, whatever is published meanwhile."""
        with self._lock:
            shard = self._follow()
            own = EdgeEngine.view(shard.folder) if shard else None
        if own is None:
            return
        try:
            yield from own.chunks(where)
        finally:
            own.close()

    def count(self, where: Where | None = None) -> int:
        with self._lock:
            shard = self._follow()
            return shard.count(where) if shard else 0

    def close(self) -> None:
        with self._lock:
            if self._shard is not None:
                self._shard.close()
            self._shard = self._version = None

    def _follow(self) -> EdgeEngine | None:
        """The published shard; None when there is none and no spec was asked for. Raises EmbeddingMismatch."""
        while (version := index_versions.current(self._root)) not in (None, self._version):
            try:
                self._open(version)
            except StoreCorrupt:
                if not index_versions.current_moved(self._root, version):  # else it was removed while being opened
                    raise
        if self._version is None:
            points.check_spec(self._spec, None, str(self._root))
        return self._shard

    def _open(self, version: str) -> None:
        manifest = index_versions.read_manifest(self._root / version)
        points.check_spec(self._spec, _info(version, manifest), str(self._root))
        shard = EdgeEngine.view(self._root / version / "shard")
        if (found := shard.count()) != manifest.chunks:
            shard.close()
            raise StoreCorrupt(
                f"{shard.folder} holds {found} chunks where {manifest.chunks} were published; {points.REBUILD}"
            )
        old, self._shard, self._version, self._open_spec = self._shard, shard, version, manifest.spec
        self._facets = None
        if old is not None:
            old.close()


class EdgeWriter:
    """Reads the published version until there is something to write; then writes a copy, or an empty new one.

    A version that is not published yet is gone on with when it was begun from what is published now, with the same
    spec; otherwise it is removed.
    """

    def __init__(self, root: Path, spec: IndexSpec, *, rebuild: bool, min_free_bytes: int, seal_every: int) -> None:
        self._root, self._spec, self._min_free, self._seal_every = root, spec, min_free_bytes, seal_every
        self._unsealed = 0  # chunks written since the shard was opened or sealed
        self._next = index_versions.next_version(root)  # before anything is removed: a name is never given twice
        self._live = None if rebuild else index_versions.current(root)
        self._live_manifest = index_versions.read_manifest(root / self._live) if self._live else None
        if self._live_manifest:
            points.check_spec(spec, _info(str(self._live), self._live_manifest), str(root))
        self._view: EdgeEngine | None = None
        self._staging: str | None = None
        self._shard: EdgeEngine | None = None
        self.token = self._live_manifest.token if self._live_manifest else None
        self._resume()

    def _resume(self) -> None:
        published = self._published()
        for version in index_versions.versions(self._root):
            if published is not None and int(version) <= int(published):
                continue
            if self._shard is None and self._can_resume(version):
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
            self._shard = EdgeEngine.load(self._root / version / "shard")
        except StoreCorrupt:  # the unpublished copy is damaged: begin again from what is published
            return False
        self._staging, self.token = version, manifest.token
        return True

    # --- what is stored ---

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        return points.whole_hashes(payload for _, payload in self._scroll(document_ids, points.HASH_FIELDS))

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        stored: dict[str, set[str]] = {}
        for point_id, payload in self._scroll(document_ids, ["document_id"]):
            stored.setdefault(payload["document_id"], set()).add(point_id)
        return stored

    def document_ids(self) -> set[str]:
        shard = self._readable()
        return {payload["document_id"] for _, payload in shard.scroll(None, ["document_id"])} if shard else set()

    def _scroll(self, document_ids: Sequence[str], fields: list[str]):
        shard = self._readable()
        for at in range(0, len(document_ids) if shard else 0, 500):
            yield from shard.scroll(Where(document_id=tuple(document_ids[at : at + 500])), fields)

    def _readable(self) -> EdgeEngine | None:
        if self._shard is None and self._view is None and self._live:
            self._view = EdgeEngine.view(self._root / self._live / "shard")
        return self._shard or self._view

    # --- writing ---

    def replace(self, document_ids: Sequence[str], new: Sequence[EmbeddedChunk], kept: Sequence[Chunk]) -> None:
        plan = points.plan_replace(
            document_ids, new, kept, stored=self.chunk_ids(document_ids), size=self._spec.embedding.size
        )
        if not plan:
            return
        _check_space(self._root, 0, self._min_free)
        shard = self._writable()
        shard.upsert(plan.new)
        shard.rewrite(plan.kept)
        shard.delete(plan.stale)
        self._unsealed += len(plan.new) + len(plan.kept)

    def checkpoint(self, token: str | None) -> None:
        self.token = token
        if self._shard is not None:
            self._shard.flush()
            self._write_manifest()
            self._seal_if_large()
        elif self._live_manifest is None:
            self._writable()
        elif token != self._live_manifest.token:  # nothing was written, so what is published is complete up to here
            self._live_manifest = self._live_manifest.model_copy(update={"token": token})
            index_versions.write_manifest(self._root / str(self._live), self._live_manifest)

    def _seal_if_large(self) -> None:
        if self._unsealed >= self._seal_every:
            folder = self._root / str(self._staging) / "shard"
            shard, self._shard = self._shard, None
            shard.close()
            seal(folder)
            self._shard, self._unsealed = EdgeEngine.load(folder), 0

    def publish(self) -> IndexInfo:
        if self._live_manifest and self._shard is None:
            return _info(str(self._live), self._live_manifest)
        shard, version = self._writable(), str(self._staging)
        manifest = Manifest(spec=self._spec, token=self.token, base=self._live)
        info = _publish(self._root, version, shard, manifest)
        self._shard = self._staging = None
        self._next = index_versions.next_version(self._root)
        self._live, self._live_manifest = version, index_versions.read_manifest(self._root / version)
        _keep_two(self._root, version)
        return info

    def _writable(self) -> EdgeEngine:
        if self._shard is None:
            self._staging = self._next
            folder = self._root / self._staging
            if self._live:
                self._close_view()
                _check_space(self._root, index_versions.stored_bytes(self._root / self._live), self._min_free)
                index_versions.copy_tree(self._root / self._live / "shard", folder / "shard")
                self._shard = EdgeEngine.load(folder / "shard")
            else:
                _check_space(self._root, 0, self._min_free)
                self._shard = EdgeEngine.create(folder / "shard", self._spec.embedding.size)
                self._shard.flush()
            self._write_manifest()
        return self._shard

    def _write_manifest(self) -> None:
        manifest = Manifest(spec=self._spec, token=self.token, chunks=self._shard.count(), base=self._live)
        index_versions.write_manifest(self._root / str(self._staging), manifest)

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
        self._view = None

    def close(self) -> None:
        self._close_view()
        if self._shard is not None:
            self._shard.close()
        self._shard = None


def _publish(root: Path, version: str, shard: EdgeEngine, manifest: Manifest) -> IndexInfo:
    shard.flush()
    chunks = shard.count()
    shard.close()
    manifest = manifest.model_copy(update={"chunks": chunks})
    index_versions.write_manifest(root / version, manifest)
    index_versions.point_current_to(root, version)
    return _info(version, manifest)


def _keep_two(root: Path, published: str) -> None:
    """The published version, and the one before it, which a reader may be opening at this moment."""
    for version in index_versions.versions(root)[:-2]:
        if version != published:
            index_versions.remove(root / version)


def _info(version: str, manifest: Manifest) -> IndexInfo:
    return IndexInfo(spec=manifest.spec, token=manifest.token, chunks=manifest.chunks, version=version)


def _check_space(root: Path, needed: int, spare: int) -> None:
    """Raises StoreUnavailable; all that was written before stays."""
    free = shutil.disk_usage(root).free
    if free < needed + spare:
        raise StoreUnavailable(
            f"the disk of {root} is full: {free / 1e6:.0f} MB are free, {(needed + spare) / 1e6:.0f} MB are needed; "
            "free some space and run again. What was published before is untouched"
        )
