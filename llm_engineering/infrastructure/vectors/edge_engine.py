"""The Qdrant engine in process: one folder of points. With `edge_requests`, all that knows qdrant_edge."""

import os
import shutil
import sys
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.chunks import Chunk, Facets, Hit, Search, Where
from llm_engineering.domain.errors import StoreCorrupt, StoreUnavailable
from llm_engineering.infrastructure.child_processes import run_child
from llm_engineering.infrastructure.files import make_folder
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
from llm_engineering.infrastructure.vectors import edge_requests, index_versions, points
from llm_engineering.infrastructure.vectors.points import Point

if TYPE_CHECKING:
    import qdrant_edge as e

BATCH = 1000  # points per call

# Runs in a child that ends with this process, so that it never writes what somebody else removes.
SEAL = """
import sys
import qdrant_edge as e
shard = e.EdgeShard.load(sys.argv[1])
shard.optimize()
shard.flush()
shard.close()
"""


@contextmanager
def engine_errors(folder: Path, *, opening: bool = False) -> Generator[None]:
    """Edge raises plain `Exception`, and panics when what is on the disk surprises it."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        if "No space left" in str(error):
            raise StoreUnavailable(f"the disk of {folder} is full; free some space and run again ({error})") from None
        kind = StoreCorrupt if opening or type(error) is not Exception else StoreUnavailable
        raise kind(f"{folder} cannot be {'opened' if opening else 'used'}: {error}; {points.REBUILD}") from error


class EdgeEngine:
    """Points in one folder. `create` and `load` take the engine's lock on it; `view` shares it with everybody."""

    def __init__(self, folder: Path, shard: "e.EdgeShard", own: TemporaryFolder | None = None) -> None:
        """`own`: where a view has its log, and its link to the folder's segments."""
        self.folder, self._shard, self._own = folder, shard, own

    @classmethod
    def create(cls, folder: Path, size: int) -> "EdgeEngine":
        """`size`: numbers in a dense vector."""
        import qdrant_edge as e

        make_folder(folder)
        with engine_errors(folder):
            shard = e.EdgeShard.create(str(folder), edge_requests.config(size))
            for operation in edge_requests.payload_indexes():
                shard.update(operation)
        return cls(folder, shard)

    @classmethod
    def load(cls, folder: Path) -> "EdgeEngine":
        """To write. Raises StoreCorrupt."""
        import qdrant_edge as e

        with engine_errors(folder, opening=True):
            return cls(folder, e.EdgeShard.load(str(folder)))

    @classmethod
    def view(cls, folder: Path) -> "EdgeEngine":
        """To read what is published, beside any number of other readers. Raises StoreCorrupt.

        The engine's lock is on its write-ahead log, which a published folder no longer needs. So each reader has a
        log of its own, in a temporary folder where `segments` is a link to the shared ones. The link goes before the
        engine is closed, which would write their state anew while others copy or remove them. The engine opens what it
        reads for writing, so where that is not allowed it is given a copy.
        """
        import qdrant_edge as e

        own = TemporaryFolder("view")
        try:
            if not (folder / "segments").is_dir():
                raise StoreCorrupt(f"{folder} holds no segments; {points.REBUILD}")
            shutil.copyfile(folder / "edge_config.json", own.path / "edge_config.json")
            _link(folder / "segments", own.path / "segments")
            with engine_errors(folder, opening=True):
                return cls(folder, e.EdgeShard.load(str(own.path)), own)
        except BaseException as error:
            own.remove()
            if isinstance(error, FileNotFoundError):
                raise StoreCorrupt(f"{folder} is incomplete ({error}); {points.REBUILD}") from error
            raise

    def close(self) -> None:
        if self._own is not None and (segments := self._own.path / "segments").is_symlink():
            segments.unlink()
        self._shard.close()

    def flush(self) -> None:
        with engine_errors(self.folder):
            self._shard.flush()

    # --- reading ---

    def count(self, where: Where | None = None) -> int:
        import qdrant_edge as e

        with engine_errors(self.folder):
            return self._shard.count(e.CountRequest(exact=True, filter=edge_requests.condition(where)))

    def scroll(self, where: Where | None, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(point id, the given payload fields)"""
        for record in self._records(where, payload=list(fields)):
            yield str(record.id), record.payload or {}

    def document_ids(self) -> set[str]:
        return {payload["document_id"] for _, payload in self.scroll(None, ["document_id"])}

    def chunks(self, where: Where | None) -> Iterator[Chunk]:
        """Ordered by id; streams."""
        for record in self._records(where, payload=True):
            yield points.to_chunk(record.id, record.payload)

    def _records(
        self, where: Where | None, *, payload: list[str] | bool, vectors: bool = False
    ) -> "Iterator[e.Record]":
        import qdrant_edge as e

        selector = e.PayloadSelector.Include(payload) if isinstance(payload, list) else payload
        offset = None
        while True:
            request = e.ScrollRequest(
                limit=BATCH,
                offset=offset,
                filter=edge_requests.condition(where),
                with_payload=selector,
                with_vector=vectors,
            )
            with engine_errors(self.folder):
                records, offset = self._shard.scroll(request)
            yield from records
            if offset is None:
                return

    def search(self, searches: Sequence[Search], where: Where | None, limit: int) -> list[list[Hit]]:
        """One list per search; the engine runs them as one planned batch."""
        import qdrant_edge as e

        wanted = limit + points.SPARE
        queries = {i: query for i, one in enumerate(searches) if (query := edge_requests.query(one, where, wanted))}
        if not queries:
            return [[] for _ in searches]
        with engine_errors(self.folder):
            answers = self._shard.query_batch(e.QueryBatchRequest(list(queries.values())))
        best = dict(zip(queries, [points.best_scores(answer, limit) for answer in answers], strict=True))
        # searches of one batch find the same chunks again and again, and reading them is most of the work
        chunks = self._chunks_by_id({i for scores in best.values() for i, _ in scores})
        return [[Hit(chunk=chunks[i], score=score) for i, score in best.get(at, ())] for at in range(len(searches))]

    def _chunks_by_id(self, ids: "Collection[e.PointId]") -> "dict[e.PointId, Chunk]":
        with engine_errors(self.folder):
            records = self._shard.retrieve(list(ids), with_payload=True, with_vector=False)
        return {record.id: points.to_chunk(record.id, record.payload) for record in records}

    def facets(self) -> Facets:
        with engine_errors(self.folder):
            return points.facets(self._counts_of, self._author_name, self._date)

    def _counts_of(self, field: str) -> dict[str, int]:
        import qdrant_edge as e

        request = e.FacetRequest(field, limit=points.MOST_VALUES, exact=True)
        return {str(hit.value): hit.count for hit in self._shard.facet(request).hits}

    def _author_name(self, author_id: str) -> str:
        return self._first("author_name", Where(author_id=author_id)) or author_id

    def _date(self, latest: bool) -> datetime | None:
        import qdrant_edge as e

        direction = e.Direction.Desc if latest else e.Direction.Asc
        found = self._first("published_at", None, e.OrderBy("published_at", direction=direction))
        return datetime.fromisoformat(found) if found else None

    def _first(self, field: str, where: Where | None, order: "e.OrderBy | None" = None) -> str | None:
        import qdrant_edge as e

        request = e.ScrollRequest(
            limit=1,
            filter=edge_requests.condition(where),
            order_by=order,
            with_payload=e.PayloadSelector.Include([field]),
        )
        records, _ = self._shard.scroll(request)
        return (records[0].payload or {}).get(field) if records else None

    # --- writing ---

    def upsert(self, new: Iterable[Point]) -> None:
        self._upsert(map(edge_requests.point, new))

    def _upsert(self, new: "Iterable[e.Point]") -> None:
        import qdrant_edge as e

        for batch in points.batched(new, BATCH):
            with engine_errors(self.folder):
                self._shard.update(e.UpdateOperation.upsert_points(batch))

    def rewrite(self, kept: Sequence[Point]) -> None:
        """Another payload, and the BM25 words that come from it; the dense vector stays."""
        with engine_errors(self.folder):
            for operation in edge_requests.rewrites(kept):
                self._shard.update(operation)

    def delete(self, ids: Sequence[str]) -> None:
        import qdrant_edge as e

        with engine_errors(self.folder):
            if ids:
                self._shard.update(e.UpdateOperation.delete_points(list(ids)))

    def copy_without(self, author_id: str, target: "EdgeEngine") -> None:
        """Points of everybody else, written anew: nothing of what was deleted is left in the target's files."""
        import qdrant_edge as e

        others = (
            e.Point(id=record.id, vector=record.vector or {}, payload=record.payload)
            for record in self._records(None, payload=True, vectors=True)
            if (record.payload or {}).get("author_id") != author_id
        )
        target._upsert(others)


def _link(segments: Path, own: Path) -> None:
    """`own` leads to the segments, or is a copy of them when they cannot be written."""
    if all(os.access(path, os.W_OK) for path in (segments, *segments.rglob("*"))):
        own.symlink_to(segments.resolve(), target_is_directory=True)
    else:
        index_versions.copy_tree(segments, own)


def seal(folder: Path) -> None:
    """What a closed engine holds in memory becomes files that are only mapped: new points cost memory, sealed ones
    none. In a child, because the bindings would freeze every thread here."""
    done = run_child([sys.executable, "-c", SEAL, folder], environment=_import_path())
    if done.code:
        raise StoreUnavailable(f"{folder} could not be sealed: {done.errors.strip()[-500:]}; run again")


def _import_path() -> dict[str, str]:
    """Where the child finds the engine, as this process does."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}
