"""The Qdrant engine in process: one folder of points. The only module that knows qdrant_edge."""

import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_engineering.domain.chunks import Chunk, Facets, Hit, Search, Where
from llm_engineering.domain.errors import StoreCorrupt, StoreUnavailable
from llm_engineering.infrastructure.vectors import points
from llm_engineering.infrastructure.vectors.bm25 import encode_passage, encode_question, passage_text
from llm_engineering.infrastructure.vectors.points import Point

BATCH = 1000  # points per call
MOST_SEGMENTS = 1000

# Runs in a child; where the kernel can, it ends with its parent, so that it never writes what somebody else removes.
SEAL = """
import sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
import qdrant_edge as e
shard = e.EdgeShard.load(sys.argv[1])
shard.optimize()
shard.flush()
shard.close()
"""


@contextmanager
def edge_errors(folder: Path, *, opening: bool = False) -> Iterator[None]:
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

    def __init__(self, folder: Path, edge: Any) -> None:
        self.folder, self._edge = folder, edge

    @classmethod
    def create(cls, folder: Path, size: int) -> "EdgeEngine":
        import qdrant_edge as e

        folder.mkdir(parents=True)
        cold = e.Memory.Cold
        config = e.EdgeConfig(
            vectors={points.DENSE: e.EdgeVectorParams(size=size, distance=e.Distance.Cosine, memory=cold)},
            sparse_vectors={points.SPARSE: e.EdgeSparseVectorParams(modifier=e.Modifier.Idf, memory=cold)},
            id_tracker_memory=cold,
            # m=0: no graph; comparing with every vector is exact, and no slower at the sizes one folder is for
            hnsw_config=e.HnswIndexConfig(m=0, ef_construct=64, full_scan_threshold=10_000),
            # what is sealed stays as it is: merging segments would need memory for all of them at once
            optimizers=e.EdgeOptimizersConfig(
                default_segment_number=MOST_SEGMENTS, max_segment_size=1, indexing_threshold=1
            ),
        )
        with edge_errors(folder):
            edge = e.EdgeShard.create(str(folder), config)
            for field in points.KEYWORDS:
                # sealing puts an author's vectors side by side, so a question to one author reads them in one go
                words = e.KeywordIndexParams(memory=cold, is_tenant=field == "author_id")
                edge.update(e.UpdateOperation.create_field_index(field, words))
            for field in points.DATES:
                edge.update(e.UpdateOperation.create_field_index(field, e.DatetimeIndexParams(memory=cold)))
        return cls(folder, edge)

    @classmethod
    def load(cls, folder: Path) -> "EdgeEngine":
        """To write. Raises StoreCorrupt."""
        import qdrant_edge as e

        with edge_errors(folder, opening=True):
            return cls(folder, e.EdgeShard.load(str(folder)))

    @classmethod
    def view(cls, folder: Path) -> "EdgeEngine":
        """To read what is published, beside any number of other readers. Raises StoreCorrupt.

        The engine's lock is on its write-ahead log, which a published folder no longer needs. So each reader has a
        log of its own, in a temporary folder where `segments` is a link to the shared ones, which it never writes.
        """
        import qdrant_edge as e

        own = Path(tempfile.mkdtemp(prefix="llm-twin-view-"))
        try:
            if not (folder / "segments").is_dir():
                raise StoreCorrupt(f"{folder} holds no segments; {points.REBUILD}")
            shutil.copyfile(folder / "edge_config.json", own / "edge_config.json")
            (own / "segments").symlink_to((folder / "segments").resolve(), target_is_directory=True)
            with edge_errors(folder, opening=True):
                shard = cls(folder, e.EdgeShard.load(str(own)))
        except BaseException as error:
            shutil.rmtree(own)
            if isinstance(error, FileNotFoundError):
                raise StoreCorrupt(f"{folder} is incomplete ({error}); {points.REBUILD}") from error
            raise
        weakref.finalize(shard, shutil.rmtree, own)
        return shard

    def close(self) -> None:
        self._edge.close()

    def flush(self) -> None:
        with edge_errors(self.folder):
            self._edge.flush()

    # --- asking ---

    def count(self, where: Where | None = None) -> int:
        import qdrant_edge as e

        with edge_errors(self.folder):
            return self._edge.count(e.CountRequest(exact=True, filter=_filter(where)))

    def scroll(self, where: Where | None, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(point id, the given payload fields)"""
        for record in self._records(where, payload=list(fields)):
            yield str(record.id), record.payload or {}

    def _records(self, where: Where | None, *, payload: list[str] | bool, vectors: bool = False) -> Iterator[Any]:
        import qdrant_edge as e

        selector = e.PayloadSelector.Include(payload) if isinstance(payload, list) else payload
        offset = None
        while True:
            with edge_errors(self.folder):
                records, offset = self._edge.scroll(
                    e.ScrollRequest(
                        limit=BATCH, offset=offset, filter=_filter(where), with_payload=selector, with_vector=vectors
                    )
                )
            yield from records
            if offset is None:
                return

    def search(self, searches: Sequence[Search], where: Where | None, limit: int) -> list[list[Hit]]:
        """One list per search; the engine runs them as one planned batch."""
        import qdrant_edge as e

        asked = {i: r for i, s in enumerate(searches) if (r := _request(s, _filter(where), limit + points.SPARE))}
        if not asked:
            return [[] for _ in searches]
        with edge_errors(self.folder):
            answers = self._edge.query_batch(e.QueryBatchRequest(list(asked.values())))
        best = dict(zip(asked, [points.best_scores(answer, limit) for answer in answers], strict=True))
        # searches of one batch find the same chunks again and again, and reading them is most of the work
        chunks = self._chunks_of({i for scores in best.values() for i, _ in scores})
        return [[Hit(chunk=chunks[i], score=score) for i, score in best.get(at, ())] for at in range(len(searches))]

    def _chunks_of(self, ids: Collection[Any]) -> dict[Any, Chunk]:
        with edge_errors(self.folder):
            records = self._edge.retrieve(list(ids), with_payload=True, with_vector=False)
        return {record.id: points.to_chunk(record.id, record.payload) for record in records}

    def facets(self) -> Facets:
        import qdrant_edge as e

        def counts(field: str) -> dict[str, int]:
            request = e.FacetRequest(field, limit=points.MOST_VALUES, exact=True)
            return {str(hit.value): hit.count for hit in self._edge.facet(request).hits}

        def first(field: str, where: Where | None, order: Any = None) -> Any:
            request = e.ScrollRequest(
                limit=1, filter=_filter(where), order_by=order, with_payload=e.PayloadSelector.Include([field])
            )
            records, _ = self._edge.scroll(request)
            return records[0].payload[field] if records else None

        with edge_errors(self.folder):
            return points.facets(
                counts,
                lambda author_id: first("author_name", Where(author_id=author_id)),
                lambda latest: first(
                    "published_at",
                    None,
                    e.OrderBy("published_at", direction=e.Direction.Desc if latest else e.Direction.Asc),
                ),
            )

    def chunks(self, where: Where | None) -> Iterator[Chunk]:
        """Ordered by id; streams."""
        for record in self._records(where, payload=True):
            yield points.to_chunk(record.id, record.payload)

    # --- writing ---

    def upsert(self, new: Sequence[Point]) -> None:
        import qdrant_edge as e

        self._upsert(
            e.Point(
                id=point.chunk.id,
                vector={points.DENSE: point.vector, points.SPARSE: _passage(point.chunk)},
                payload=point.payload,
            )
            for point in new
        )

    def _upsert(self, batch: Iterable[Any]) -> None:
        import qdrant_edge as e

        batch = list(batch)
        for at in range(0, len(batch), BATCH):
            with edge_errors(self.folder):
                self._edge.update(e.UpdateOperation.upsert_points(batch[at : at + BATCH]))

    def rewrite(self, kept: Sequence[Point]) -> None:
        """Another payload, and the BM25 words that come from it; the dense vector stays."""
        import qdrant_edge as e

        with edge_errors(self.folder):
            if kept:
                words = [e.PointVectors(id=p.chunk.id, vector={points.SPARSE: _passage(p.chunk)}) for p in kept]
                self._edge.update(e.UpdateOperation.update_vectors(words))
            for point in kept:
                self._edge.update(e.UpdateOperation.overwrite_payload([point.chunk.id], point.payload))

    def delete(self, ids: Sequence[str]) -> None:
        import qdrant_edge as e

        with edge_errors(self.folder):
            if ids:
                self._edge.update(e.UpdateOperation.delete_points(list(ids)))

    def copy_without(self, author_id: str, target: "EdgeEngine") -> None:
        """Points of everybody else, written anew: nothing of what was deleted is left in the target's files."""
        import qdrant_edge as e

        batch = []
        for record in self._records(None, payload=True, vectors=True):
            if record.payload["author_id"] != author_id:
                batch.append(e.Point(id=record.id, vector=record.vector, payload=record.payload))
            if len(batch) == BATCH:
                target._upsert(batch)
                batch = []
        target._upsert(batch)


def seal(folder: Path) -> None:
    """What a closed shard holds in memory becomes files that are only mapped: new points cost memory, sealed ones
    none. In a child, because the bindings would freeze every thread here."""
    done = subprocess.run([sys.executable, "-c", SEAL, str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise StoreUnavailable(f"{folder} could not be sealed: {done.stderr.strip()[-500:]}; run again")


def _request(search: Search, only: Any, wanted: int) -> Any:
    """None when the search holds neither a vector nor a word."""
    import qdrant_edge as e

    question = encode_question(search.text) if search.text is not None else None
    asked, weights = [], []
    if search.vector is not None:
        asked.append(e.Query.Nearest([float(x) for x in search.vector], using=points.DENSE))
        weights.append(search.dense_weight)
    if question and question.indices:
        asked.append(e.Query.Nearest(e.SparseVector(*question), using=points.SPARSE))
        weights.append(search.bm25_weight)
    if not asked:
        return None
    if len(asked) == 1:
        return e.QueryRequest(query=asked[0], filter=only, limit=wanted, with_payload=False)
    each = max(points.PREFETCH, wanted)
    return e.QueryRequest(
        prefetches=[e.Prefetch(query=query, filter=only, limit=each) for query in asked],
        query=e.Fusion.Rrf(k=points.RRF_K, weights=weights),
        limit=wanted,
        with_payload=False,
    )


def _passage(chunk: Chunk) -> Any:
    import qdrant_edge as e

    return e.SparseVector(*encode_passage(passage_text(chunk)))


def _filter(where: Where | None) -> Any:
    import qdrant_edge as e

    must = [e.FieldCondition(key=field, match=e.MatchAny(values)) for field, values in points.any_of(where).items()]
    start, stop = points.between(where)
    if start or stop:
        span = e.RangeDateTime(gte=start.isoformat() if start else None, lt=stop.isoformat() if stop else None)
        must.append(e.FieldCondition(key="published_at", range=span))
    return e.Filter(must=must) if must else None
