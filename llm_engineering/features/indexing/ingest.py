"""Bring the vector store up to what the warehouse holds, doing only what changed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec
from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import TokenExpired, TooFewIndexed
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import DocumentFailure, Reason
from llm_engineering.domain.ports import Change, Embedder, IndexWriter, Ledger, Sandbox, VectorStore, Warehouse
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.chunking import token_limit
from llm_engineering.features.indexing.failures import Failed, OpenFailures, code_version, logged_failure
from llm_engineering.features.indexing.prepare import Preparation, Prepared
from llm_engineering.features.indexing.removal_guard import RemovalGuard
from llm_engineering.features.indexing.report_builder import ReportBuilder
from llm_engineering.features.indexing.success_rate import too_few_indexed
from llm_engineering.features.sources import SOURCES, Source

DOCUMENT_BATCH = 32  # documents that are cut together
CHARACTER_BATCH = 1_000_000  # of their bodies
EMBEDDING_BATCH = 256  # chunks between two reports of progress

OnProgress = Callable[[FeatureReport], None]


def build_features(
    *,
    warehouse: Warehouse,
    ledger: Ledger,
    embedder: Embedder,
    vectors: VectorStore,
    sandbox: Sandbox,
    config: FeatureConfig,
    rebuild: bool = False,
    allow_empty: bool = False,
    on_progress: OnProgress | None = None,
    stop: Callable[[], bool] | None = None,
    sources: Sequence[Source] = SOURCES,
    code: str | None = None,
) -> FeatureReport:
    """Clean, cut, embed and store what changed since the last run, and publish it.

    Memory is bounded by `config.buffer_chunks` and the largest document. What was stored for a buffer stays stored
    when the run ends early, by `stop`, a crash or whatever `on_progress` raises; the next run goes on from there.

    Documents are cleaned and cut in the `sandbox`. Whatever is raised while one is read, cleaned or cut, or what it
    takes over its budget, is its own outcome: it loses its chunks, the ledger keeps why, and it is tried again when it
    changed, with `rebuild`, or when `code` is not what failed then (None: `code_version()`, and the budget). So is a
    document of which nothing is left after cleaning.

    Raises TooFewIndexed, after publishing the rest, when a smaller share of the warehouse's documents than
    `config.min_success_rate` is indexed, or when this run could index none of those that are new or changed.
    Raises WouldEmptyIndex, unless `allow_empty`, before anything is changed, as `RemovalGuard` says.
    Raises EmbeddingMismatch when the index was built with another embedder or chunking and `rebuild` is False,
    StoreLocked when another run is writing, ConfigError when the chunks would not fit the embedder.
    """
    spec = IndexSpec(embedding=embedder.spec, chunking=config.chunking)
    limit = token_limit(config.chunking, embedder)
    report = ReportBuilder(rebuilt=rebuild)
    code = code or content_hash(code_version(), config.budget.model_dump_json(exclude={"processes"}))
    with vectors.writer(spec, rebuild=rebuild, warehouse=warehouse.ref) as writer:
        guard = None if allow_empty else RemovalGuard(warehouse, vectors, rebuild=rebuild)
        if guard:
            guard.check_warehouse()
        return _IndexBuild(
            warehouse=warehouse,
            embedder=embedder,
            writer=writer,
            config=config,
            prepare=Preparation(
                sources=sources,
                sandbox=sandbox,
                max_tokens=limit,
                window_size=config.chunking.window,
                count_tokens=embedder.count_tokens,
                code_version=code,
                timed=report.timed,
            ),
            failures=OpenFailures(ledger, code),
            report=report,
            on_progress=on_progress or (lambda report: None),
            stop=stop or (lambda: False),
            guard=guard,
            erasures=warehouse.erasures(),
        ).run()


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """What is cut together: a few documents, or one that is large."""
    batch: list[Change] = []
    characters = 0
    for change in changes:
        batch.append(change)
        characters += len(change.document.body) if change.document else 0
        if len(batch) == DOCUMENT_BATCH or characters >= CHARACTER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Stopped(Exception):
    """`stop` said so. Never leaves this module."""


@dataclass(kw_only=True)
class _IndexBuild:
    """One pass over the change feed. `buffer` holds the chunks that each document is to have, by its id."""

    warehouse: Warehouse
    embedder: Embedder
    writer: IndexWriter
    config: FeatureConfig
    prepare: Preparation
    failures: OpenFailures
    report: ReportBuilder
    on_progress: OnProgress
    stop: Callable[[], bool]
    guard: RemovalGuard | None
    erasures: int  # when it began
    buffer: dict[str, list[Chunk]] = field(default_factory=dict)

    def run(self) -> FeatureReport:
        self.failures.resolve_settled(self.warehouse, self.writer)
        try:
            self._flush(self._ingest_or_rescan(self.writer.token), complete=True)
        except _Stopped:
            return self._final_report(red="stopped before the end; run again and it goes on from here")
        self._follow_erasures()
        if self.guard:
            self.guard.check_build(self.writer)
        return self._publish()

    def _ingest_or_rescan(self, begin: str | None) -> str | None:
        try:
            return self._ingest(begin)
        except TokenExpired:
            self.buffer.clear()
            self.report.rescanned = True
            token = self._ingest(None)
            self._remove_orphans()
            return token

    def _ingest(self, since: str | None) -> str | None:
        """The token of the last change that was ingested; what is left of the buffer is not stored yet."""
        token = since
        retries = self.failures.to_retry(self.warehouse, since) if since else ()
        for batch in _batches(chain(retries, self.warehouse.changes(since))):
            stored = self.writer.hashes([change.document_id for change in batch])
            for change, outcome in zip(batch, self._outcomes(batch, stored), strict=True):
                self._buffer_outcome(change.document_id, outcome, indexed=change.document_id in stored)
                token = change.token
                if self._buffer_is_full():
                    self._flush(token)
            self._report_progress()
        return token

    def _outcomes(self, batch: list[Change], stored: dict[str, str]) -> list[Prepared | None]:
        """Of each change; None when what is stored is right, [] for a deleted document."""
        outcomes: dict[int, Prepared | None] = {}
        wanted: dict[int, Document] = {}
        for i, (document_id, document, _, error) in enumerate(batch):
            if error is not None:
                outcomes[i] = logged_failure(Failed.by(error, "read"), document_id, None, self.failures.code_version)
            elif document is None:
                outcomes[i] = []
            elif document.content_hash == stored.get(document_id):
                outcomes[i] = None
            else:
                wanted[i] = document
        outcomes.update(zip(wanted, self.prepare(list(wanted.values())), strict=True))
        return [outcomes[i] for i in range(len(batch))]

    def _buffer_outcome(self, document_id: str, outcome: Prepared | None, *, indexed: bool) -> None:
        self.report.counts["documents_seen"] += 1
        if isinstance(outcome, DocumentFailure):
            self.failures.add(outcome)
            self.buffer[document_id] = []  # an older text is not what the author says now
            return
        self.failures.resolve(document_id)
        if outcome is None:
            self.report.counts["documents_unchanged"] += 1
            self.buffer.pop(document_id, None)  # of an older state
            return
        self.buffer[document_id] = outcome
        self.report.counts["documents_removed"] += indexed and not outcome

    def _buffer_is_full(self) -> bool:
        chunks = sum(map(len, self.buffer.values()))
        return max(chunks, len(self.buffer)) >= self.config.buffer_chunks

    def _flush(self, token: str | None, *, complete: bool = False) -> None:
        """Write the buffer. While rescanning, the expired token stays until all is compared, so that a run that is
        cut short rescans again and removes what is no more."""
        documents = list(self.buffer)
        chunks = [chunk for chunks in self.buffer.values() for chunk in chunks]
        known = set().union(*self.writer.chunk_ids(documents).values())
        kept = [chunk for chunk in chunks if chunk.id in known]
        embedded = self._embed([chunk for chunk in chunks if chunk.id not in known])
        self.failures.record()
        with self.report.timed("loading"):
            if documents:
                self.writer.replace(documents, embedded, kept)
            self.writer.checkpoint(self.writer.token if self.report.rescanned and not complete else token)
        self.failures.forget_resolved()
        self.report.counts.update(
            documents_indexed=sum(bool(chunks) for chunks in self.buffer.values()),
            chunks_reused=len(kept),
            chunks_removed=len(known) - len(kept),
            characters=sum(chunk.end - chunk.start for chunk in chunks),
            tokens=sum(chunk.tokens for chunk in chunks),
        )
        self.buffer.clear()
        self._report_progress()

    def _embed(self, chunks: list[Chunk]) -> list[EmbeddedChunk]:
        """Longest first, so that each batch holds chunks of about one length."""
        ordered = sorted(chunks, key=lambda chunk: -chunk.tokens)
        embedded: list[EmbeddedChunk] = []
        for at in range(0, len(ordered), EMBEDDING_BATCH):
            batch = ordered[at : at + EMBEDDING_BATCH]
            with self.report.timed("embedding"):
                rows = self.embedder.embed([chunk.text for chunk in batch])
            embedded += [EmbeddedChunk(chunk, row) for chunk, row in zip(batch, rows, strict=True)]
            self.report.counts["chunks_embedded"] += len(batch)
            self._report_progress()
        return embedded

    def _remove_orphans(self) -> None:
        """After a rescan: what the index holds of documents that the warehouse no longer has."""
        gone = self.writer.document_ids().difference(self.warehouse.ids(), self.buffer)
        self.buffer.update((document_id, []) for document_id in gone)
        self.report.counts["documents_removed"] += len(gone)

    def _follow_erasures(self) -> None:
        """What was read before an author was erased, and is erased since, is not published."""
        if self.warehouse.erasures() != self.erasures:
            self.failures.resolve_settled(self.warehouse, self.writer)
            self._remove_orphans()
            self._flush(self.writer.token, complete=True)

    def _publish(self) -> FeatureReport:
        with self.report.timed("loading"):
            info = self.writer.publish()
        report = self._final_report(chunks_total=info.chunks, index_version=info.version)
        if red := too_few_indexed(report, self.failures, self.warehouse.count(), self.config.min_success_rate):
            raise TooFewIndexed(red, report.model_copy(update={"red": red}))
        return report

    def _final_report(self, **fields: object) -> FeatureReport:
        failures, empty = self.failures.listed()
        return self._report(failures=failures, documents_empty=empty, **fields)

    def _report(self, **fields: object) -> FeatureReport:
        open_failures = self.failures.by_reason
        empty = open_failures.pop(Reason.EMPTY, 0)
        return self.report.report(failed=open_failures.total(), empty=empty, **fields)

    def _report_progress(self) -> None:
        self.on_progress(self._report())
        if self.stop():
            raise _Stopped
