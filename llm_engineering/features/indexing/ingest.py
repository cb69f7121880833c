"""Bring the vector store up to what the warehouse holds, doing only what changed."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec
from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import CleaningError, TokenExpired, TooFewIndexed
from llm_engineering.domain.ports import Change, Embedder, IndexWriter, VectorStore, Warehouse
from llm_engineering.domain.runs import MAX_FAILURES, FeatureReport
from llm_engineering.features.cleaning.clean import Cleaned
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.chunking import chunks_of_all, token_limit
from llm_engineering.features.sources import SOURCES, Source

READ_TOGETHER = 32  # documents that are cut together
CHARACTERS_TOGETHER = 1_000_000  # of their bodies
EMBEDDED_TOGETHER = 256  # chunks between two reports of progress
JUDGED_FROM = 4  # documents; of fewer, all may well be empty

OnProgress = Callable[[FeatureReport], None]


def build_features(
    *,
    warehouse: Warehouse,
    embedder: Embedder,
    vectors: VectorStore,
    config: FeatureConfig,
    rebuild: bool = False,
    on_progress: OnProgress | None = None,
    stop: Callable[[], bool] | None = None,
    sources: Sequence[Source] = SOURCES,
) -> FeatureReport:
    """Clean, cut, embed and store what changed since the last run, and publish it.

    Memory is bounded by `config.buffer_chunks` and the largest document. What was stored for a buffer stays stored
    when the run ends early, by `stop`, a crash or whatever `on_progress` raises; the next run goes on from there.
    A document that cannot be cleaned, or is empty afterwards, loses its chunks and is named in the report.

    Raises TooFewIndexed (after publishing the rest) when that is most of them: the next run then tries them again.
    Raises EmbeddingMismatch when the index was built with another embedder or chunking and `rebuild` is False,
    StoreLocked when another run is writing, ConfigError when the chunks would not fit the embedder.
    """
    spec = IndexSpec(embedding=embedder.spec, chunking=config.chunking)
    limit = token_limit(config.chunking, embedder)
    with vectors.writer(spec, rebuild=rebuild) as writer:
        run = _IndexRun(
            warehouse=warehouse,
            embedder=embedder,
            writer=writer,
            config=config,
            max_tokens=limit,
            sources=sources,
            on_progress=on_progress or (lambda report: None),
            stop=stop or (lambda: False),
            counts=_Counts(rebuilt=rebuild),
        )
        return run.to_the_end()


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """What is cut together: a few documents, or one that is large."""
    batch: list[Change] = []
    characters = 0
    for change in changes:
        batch.append(change)
        characters += len(change.document.body) if change.document else 0
        if len(batch) == READ_TOGETHER or characters >= CHARACTERS_TOGETHER:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Stopped(Exception):
    """`stop` said so. Never leaves this module."""


@dataclass
class _Counts:
    """A FeatureReport in the making."""

    rebuilt: bool
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=time.perf_counter)
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, amount: float = 1) -> None:
        self.values[name] = self.values.get(name, 0) + amount

    def empty(self, link: str, why: str) -> None:
        self.add("empty")
        if len(self.reasons) < MAX_FAILURES:
            self.reasons[link] = why

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(f"seconds_{name}", time.perf_counter() - start)

    def report(self, **more: object) -> FeatureReport:
        return FeatureReport(
            **self.values,
            **more,
            rebuilt=self.rebuilt,
            documents_empty=dict(self.reasons),
            started_at=self.started_at,
            seconds=time.perf_counter() - self.begun,
        )


@dataclass(kw_only=True)
class _IndexRun:
    """One pass over the change feed. `buffer` holds what each document is to become, by id."""

    warehouse: Warehouse
    embedder: Embedder
    writer: IndexWriter
    config: FeatureConfig
    max_tokens: int
    sources: Sequence[Source]
    on_progress: OnProgress
    stop: Callable[[], bool]
    counts: _Counts
    buffer: dict[str, list[Chunk]] = field(default_factory=dict)
    rescanning: bool = False

    def to_the_end(self) -> FeatureReport:
        begin = self.writer.token
        try:
            self._store(self._follow_or_rescan(begin), complete=True)
        except _Stopped:
            return self._report(red="stopped before the end; run again and it goes on from here")
        return self._publish(begin)

    def _follow_or_rescan(self, begin: str | None) -> str | None:
        try:
            return self._follow(begin)
        except TokenExpired:
            self.buffer.clear()
            self.rescanning = True
            token = self._follow(None)
            self._forget_unknown()
            return token

    def _follow(self, since: str | None) -> str | None:
        """The token of the last change that was taken in; what is left of the buffer is not stored yet."""
        token = since
        for batch in _batches(self.warehouse.changes(since)):
            stored = self.writer.hashes([change.document_id for change in batch])
            for change, chunks in zip(batch, self._chunks_of(batch, stored), strict=True):
                self._take(change, stored.get(change.document_id), chunks)
                token = change.token
                if self._buffer_is_full():
                    self._store(token)
            self._tell()
        return token

    def _take(self, change: Change, stored_hash: str | None, chunks: list[Chunk] | None) -> None:
        self.counts.add("documents_seen")
        if chunks is None:  # what is stored is right, and what waits in the buffer is older
            self.buffer.pop(change.document_id, None)
            self.counts.add("documents_unchanged")
            return
        self.buffer[change.document_id] = chunks
        if change.document is None and stored_hash is not None:
            self.counts.add("documents_removed")

    def _chunks_of(self, batch: list[Change], stored: dict[str, str]) -> list[list[Chunk] | None]:
        """Of each change; None for a document that is stored as it is, [] for one deleted or come to nothing."""
        cut: list[list[Chunk] | None] = [[] for _ in batch]
        cleaned: dict[int, tuple[Document, Cleaned]] = {}
        for i, (document_id, document, _) in enumerate(batch):
            if document is not None and stored.get(document_id) == document.content_hash:
                cut[i] = None
            elif document is not None and (text := self._cleaned(document)) is not None:
                cleaned[i] = document, text
        with self.counts.timed("splitting"):
            chunks = chunks_of_all(
                list(cleaned.values()),
                max_tokens=self.max_tokens,
                window_size=self.config.chunking.window,
                count_tokens=self.embedder.count_tokens,
            )
        for i, own in zip(cleaned, chunks, strict=True):
            cut[i] = own
            if not own:
                self.counts.empty(cleaned[i][0].link, "nothing was left after cleaning")
        return cut

    def _cleaned(self, document: Document) -> Cleaned | None:
        """None when it cannot be; the report says why."""
        source = next((source for source in self.sources if source.name == document.source), None)
        if source is None:
            self.counts.empty(document.link, f"no source is called {document.source!r} any more")
            return None
        try:
            with self.counts.timed("cleaning"):
                return source.clean(document.body, document.media_type)
        except CleaningError as error:
            self.counts.empty(document.link, str(error))
            return None

    def _buffer_is_full(self) -> bool:
        waiting = sum(map(len, self.buffer.values()))
        return max(waiting, len(self.buffer)) >= self.config.buffer_chunks

    def _store(self, token: str | None, *, complete: bool = False) -> None:
        """Write the buffer. While rescanning, the expired token stays until all is compared, so that a run that is
        cut short rescans again and forgets what is no more."""
        documents = list(self.buffer)
        chunks = [chunk for chunks in self.buffer.values() for chunk in chunks]
        stored = self.writer.chunk_ids(documents)
        known = set().union(*stored.values())
        new = [chunk for chunk in chunks if chunk.id not in known]
        kept = [chunk for chunk in chunks if chunk.id in known]
        embedded = self._embed(new)
        with self.counts.timed("loading"):
            if documents:
                self.writer.replace(documents, embedded, kept)
            self.writer.checkpoint(self.writer.token if self.rescanning and not complete else token)
        self.counts.add("documents_indexed", sum(bool(chunks) for chunks in self.buffer.values()))
        self.counts.add("chunks_reused", len(kept))
        self.counts.add("chunks_removed", len(known) - len(kept))
        self.counts.add("characters", sum(chunk.end - chunk.start for chunk in chunks))
        self.counts.add("tokens", sum(chunk.tokens for chunk in chunks))
        self.buffer.clear()
        self._tell()

    def _embed(self, chunks: list[Chunk]) -> list[EmbeddedChunk]:
        """Longest first, so that each batch holds chunks of about one length."""
        ordered = sorted(chunks, key=lambda chunk: -chunk.tokens)
        embedded: list[EmbeddedChunk] = []
        for at in range(0, len(ordered), EMBEDDED_TOGETHER):
            batch = ordered[at : at + EMBEDDED_TOGETHER]
            with self.counts.timed("embedding"):
                rows = self.embedder.embed([chunk.text for chunk in batch])
            embedded += [EmbeddedChunk(chunk, row) for chunk, row in zip(batch, rows, strict=True)]
            self.counts.add("chunks_embedded", len(batch))
            self._tell()
        return embedded

    def _forget_unknown(self) -> None:
        """After a rescan: what the index holds of documents that the warehouse no longer has."""
        gone = self.writer.document_ids().difference(self.warehouse.ids(), self.buffer)
        self.buffer.update((document_id, []) for document_id in gone)
        self.counts.add("documents_removed", len(gone))

    def _publish(self, begin: str | None) -> FeatureReport:
        empty, seen = self.counts.values.get("empty", 0), self.counts.values.get("documents_seen", 0)
        too_few = seen >= JUDGED_FROM and empty * 2 > seen
        if too_few:
            self.writer.checkpoint(begin)
        with self.counts.timed("loading"):
            info = self.writer.publish()
        report = self._report(chunks_total=info.chunks, index_version=info.version)
        if too_few:
            raise TooFewIndexed(
                f"nothing was left of {empty} of {seen} documents after cleaning, as of "
                + "; ".join(f"{link}: {why}" for link, why in list(self.counts.reasons.items())[:3])
                + ". The others are searchable; the next run tries these again",
                report,
            )
        return report

    def _tell(self) -> None:
        self.on_progress(self._report())
        if self.stop():
            raise _Stopped

    def _report(self, **more: object) -> FeatureReport:
        return self.counts.report(rescanned=self.rescanning, **more)
