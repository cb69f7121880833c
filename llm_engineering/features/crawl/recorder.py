"""Counts what one run did to an author's links, and writes each link's outcome into the ledger."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from time import perf_counter
from typing import NamedTuple

from loguru import logger

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import LedgerEntry, Outcome
from llm_engineering.domain.ports import Ledger
from llm_engineering.domain.runs import MAX_FAILURES, CrawlReport, Failure
from llm_engineering.features.crawl.expand_links import LinkRef
from llm_engineering.features.crawl.traffic import Traffic

GOOD = (Outcome.READ, Outcome.UNCHANGED, Outcome.GONE)
LEDGER_BATCH = 64  # entries written together; fewer when nothing else is waiting


class Validators(NamedTuple):
    """Those of the last full answer."""

    etag: str | None = None
    last_modified: str | None = None


NO_VALIDATORS = Validators()


class CrawlRecorder:
    """Lives on one thread. `counts` by outcome and by what became of documents; entries are written by `flush`."""

    def __init__(
        self,
        author: Author,
        ledger: Ledger,
        traffic: Traffic,
        *,
        clock: Callable[[], datetime],
        on_progress: Callable[[CrawlReport], None] | None,
    ) -> None:
        self._author, self._ledger, self._traffic = author, ledger, traffic
        self._clock, self._on_progress = clock, on_progress
        self._started_at, self._timer = clock(), perf_counter()
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._unwritten: list[LedgerEntry] = []

    def success(
        self,
        link: LinkRef,
        prior: LedgerEntry | None,
        outcome: Outcome,
        *,
        documents: int = 0,
        found_in: str = "",
        validators: Validators = NO_VALIDATORS,
    ) -> None:
        self.counts[outcome] += 1
        self._record(
            link,
            prior,
            outcome,
            last_success=self._clock(),
            documents=documents,
            found_in=found_in,
            validators=validators,
        )

    def list_read(self, link: LinkRef, prior: LedgerEntry | None) -> None:
        """A feed or handle that failed before can be read again: it is no dead letter any more."""
        if prior and prior.outcome not in GOOD:
            self._record(link, prior, Outcome.READ, last_success=self._clock())

    def failure(
        self, link: LinkRef, prior: LedgerEntry | None, error: SourceError, *, partly_stored: bool = False
    ) -> None:
        """`partly_stored`: some documents are newer than the validators, which therefore go."""
        self.count_failure(link.link, error)
        logger.warning("{}: {} not read: {} {}", self._author.name, link.link, error.reason, error.detail)
        validators = Validators(prior.etag, prior.last_modified) if prior and not partly_stored else NO_VALIDATORS
        self._record(
            link,
            prior,
            Outcome.FAILED if error.retry else Outcome.DEAD,
            last_success=prior.last_success if prior else None,
            documents=prior.documents if prior else 0,
            found_in=prior.found_in if prior else "",
            validators=validators,
            error=error,
        )

    def count_failure(self, link: str, error: SourceError) -> None:
        """Of a link whose entry stays as it is."""
        self.counts["failed"] += 1
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(Failure(link=link, reason=error.reason, detail=error.detail, retry=error.retry))

    def _record(
        self,
        link: LinkRef,
        prior: LedgerEntry | None,
        outcome: Outcome,
        *,
        last_success: datetime | None,
        documents: int = 0,
        found_in: str = "",
        validators: Validators = NO_VALIDATORS,
        error: SourceError | None = None,
    ) -> None:
        at = self._clock()
        entry = LedgerEntry(
            link=link.link,
            url=link.url,
            author_id=self._author.id,
            author_name=self._author.name,
            source=link.source,
            outcome=outcome,
            reason=error.reason if error else None,
            detail=error.detail if error else "",
            attempts=(prior.attempts if prior else 0) + 1 if error else 0,
            first_seen=prior.first_seen if prior else at,
            last_attempt=at,
            last_success=last_success,
            etag=validators.etag,
            last_modified=validators.last_modified,
            documents=documents,
            found_in=found_in,
        )
        self._unwritten.append(entry)
        if self._on_progress:
            self._on_progress(self.report())

    def flush(self) -> None:
        if self._unwritten:
            self._ledger.record(self._unwritten)
            self._unwritten = []

    def flush_if(self, idle: bool) -> None:
        """When a batch is full or nothing else is waiting."""
        if idle or len(self._unwritten) >= LEDGER_BATCH:
            self.flush()

    def report(self) -> CrawlReport:
        counts = self.counts
        return CrawlReport(
            author=self._author.name,
            links=sum(counts[name] for name in ("read", "unchanged", "gone", "failed", "resumed")),
            read=counts["read"],
            unchanged=counts["unchanged"],
            gone=counts["gone"],
            failed=counts["failed"],
            resumed=counts["resumed"],
            documents_inserted=counts["documents_inserted"],
            documents_updated=counts["documents_updated"],
            documents_unchanged=counts["documents_unchanged"],
            documents_deleted=counts["documents_deleted"],
            bodies_downloaded=self._traffic.bodies,
            bytes_downloaded=self._traffic.bytes,
            skipped=dict(self.skipped),
            by_source=dict(self.by_source),
            failures=tuple(self._failures),
            started_at=self._started_at,
            seconds=perf_counter() - self._timer,
        )
