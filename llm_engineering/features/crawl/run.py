"""Reads an author's links into the warehouse, and writes down what happened to each. See docs/crawl.md."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter

from loguru import logger

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import SourceError, TooFewRead
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import LedgerEntry, Outcome, Reason
from llm_engineering.domain.ports import FetchContext, Ledger, Warehouse
from llm_engineering.domain.runs import MAX_FAILURES, CrawlReport, Failure
from llm_engineering.features.config import AuthorConfig
from llm_engineering.features.crawl.expand_links import ListRead, Task, UnreadableLink, tasks
from llm_engineering.features.crawl.host_queue import Assignment
from llm_engineering.features.crawl.read_link import Delivery, Traffic, read
from llm_engineering.features.crawl.threads import CrawlThreads
from llm_engineering.features.sources import SOURCES, Source, Target

GOOD = (Outcome.READ, Outcome.UNCHANGED, Outcome.GONE)
RESUME_WITHIN = timedelta(days=1)  # an unfinished run older than this is not gone on with: its pages are old
REST = timedelta(days=7)  # a link that is dead for a reason of the site's is left alone for so long

# Dead for a reason of ours: a setting, a file or a key may have changed since, so they are asked on every run.
OURS = (
    Reason.BAD_ARCHIVE, Reason.BAD_LINK, Reason.BLOCKED_ADDRESS, Reason.BROWSER, Reason.GIT, Reason.LOADER,
    Reason.LOGIN, Reason.MISSING_CREDENTIALS, Reason.MISSING_FILE, Reason.NEEDS_JAVASCRIPT, Reason.ROBOTS,
    Reason.TOO_LARGE,
)  # fmt: skip

LEDGER_BATCH = 64  # entries; written sooner when nothing else is waiting


def now() -> datetime:
    return datetime.now(UTC)


def crawl_author(
    author: AuthorConfig,
    *,
    context: FetchContext,
    warehouse: Warehouse,
    ledger: Ledger,
    concurrency: int,
    min_success_rate: float,
    revalidate: bool = True,
    retry_failed: bool = False,
    stop: Callable[[], bool] | None = None,
    on_progress: Callable[[CrawlReport], None] | None = None,
    sources: Sequence[Source] = SOURCES,
    clock: Callable[[], datetime] = now,
) -> CrawlReport:
    """Read every link of one author that is worth asking, `concurrency` at a time.

    `revalidate` False asks for full pages again; `retry_failed` also asks links left alone as dead. When `stop`
    says so, what is in flight is stored and the report is `red`; the next run goes on from there, as it does after
    Ctrl-C or a crash.

    Raises TooFewRead, with the report, after everything is recorded, when a smaller share than `min_success_rate`
    was read or there was no link at all; ConfigError before anything is asked; StoreUnavailable at once. The stores
    are only written on the calling thread.
    """
    name, traffic = Author(name=author.name), Traffic(context)
    known = partial(ledger.entries, author_id=name.id)
    found = tasks(author, context=traffic.context, sources=sources, known=known)
    fingerprint = content_hash(author.model_dump_json(), "revalidate" if revalidate else "full")
    run = _CrawlRun(
        name,
        warehouse,
        ledger,
        _begin(ledger, name.id, fingerprint, clock),
        revalidate,
        retry_failed,
        clock,
        on_progress,
        traffic,
    )

    def deliver(one: Assignment):
        return read(one.task, one.target, author=name, context=traffic.context)

    with CrawlThreads(found, deliver, concurrency=concurrency, stop=stop) as threads:
        try:
            run.hear(threads)
        except KeyboardInterrupt:
            run.write()  # what was in flight is asked again by the next run
            raise
    report = run.report()
    if threads.stopped:
        return report.model_copy(update={"red": "stopped before the end; run again and it goes on from here"})
    ledger.finish(name.id, fingerprint)
    if red := _too_few(report, min_success_rate):
        raise TooFewRead(red, report.model_copy(update={"red": red}))
    return report


def _begin(ledger: Ledger, author_id: str, fingerprint: str, clock: Callable[[], datetime]) -> datetime:
    began = ledger.begin(author_id, fingerprint)
    if clock() - began > RESUME_WITHIN:
        ledger.finish(author_id, fingerprint)
        began = ledger.begin(author_id, fingerprint)
    return began


def _too_few(report: CrawlReport, min_success_rate: float) -> str:
    """Why the run is red; "" when it is not."""
    if not report.links:
        return f"{report.author}: no link was found; is the config right?"
    read_ = report.links - report.failed
    if read_ / report.links >= min_success_rate:
        return ""
    example: dict[Reason, str] = {}
    for failure in report.failures:
        example.setdefault(failure.reason, f"{failure.link}: {failure.detail}" if failure.detail else failure.link)
    reasons = Counter(failure.reason for failure in report.failures).most_common(3)
    return (
        f"{report.author}: {read_} of {report.links} links were read, min_success_rate wants {min_success_rate:.0%}."
        + "".join(f"\n  {count} {reason}, such as {example[reason]}" for reason, count in reasons)
        + "\nWhat was read is stored. `poe crawl-status` lists every failed link and what to do about it."
    )


@dataclass
class _Progress:
    """Of a link in flight."""

    prior: LedgerEntry | None
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    ids: set[str] = field(default_factory=set)

    def is_new(self, document_id: str) -> bool:
        """Of two documents of one link the first counts: taking both would make a revision in every run."""
        before = len(self.ids)
        self.ids.add(document_id)
        return len(self.ids) > before


@dataclass
class _CrawlRun:
    """What one run knows and has counted; lives on one thread."""

    author: Author
    warehouse: Warehouse
    ledger: Ledger
    began: datetime
    revalidate: bool
    retry_failed: bool
    clock: Callable[[], datetime]
    on_progress: Callable[[CrawlReport], None] | None
    traffic: Traffic

    def __post_init__(self) -> None:
        self.started, self.timer = self.clock(), perf_counter()
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.in_flight: dict[str, _Progress] = {}
        self.unwritten: list[LedgerEntry] = []

    def hear(self, threads: CrawlThreads) -> None:
        for event in threads.events():
            match event:
                case Task():
                    self.consider(event, threads)
                case UnreadableLink():
                    self.lost(event.link, event.link, event.source, self.ledger.entry(event.link), event.error)
                    threads.skip()
                case ListRead():
                    self.list_read(event)
                    threads.skip()
                case Delivery():
                    self.store(event)
            if len(self.unwritten) >= LEDGER_BATCH or threads.quiet:
                self.write()
        self.write()

    def consider(self, task: Task, threads: CrawlThreads) -> None:
        """Ask the link, unless this run has, somebody else does, or it is dead."""
        prior = self.ledger.entry(task.link)
        self.by_source[task.source.name] += 1
        if prior and prior.author_id != self.author.id and prior.last_success:
            detail = f"belongs to {prior.author_name} already; list it under one author (or forget that one)"
            self.failed(task.link, SourceError(task.link, Reason.BAD_LINK, detail, retry=False))
        elif prior and prior.outcome in GOOD and prior.last_success and prior.last_success >= self.began:
            self.counts["resumed"] += 1
        elif prior and self.rests(prior):
            detail = f"{prior.detail}; not asked again since {prior.last_attempt:%Y-%m-%d}, --retry-failed does"
            self.failed(task.link, SourceError(task.link, prior.reason, detail.lstrip("; "), retry=False))
        else:
            self.in_flight[task.link] = _Progress(prior)
            threads.go(Assignment(task, self.target(task, prior)))
            return
        threads.skip()

    def rests(self, prior: LedgerEntry) -> bool:
        if self.retry_failed or prior.outcome != Outcome.DEAD or prior.reason in OURS:
            return False
        return self.clock() - prior.last_attempt < REST

    def target(self, task: Task, prior: LedgerEntry | None) -> Target:
        """With validators only while the documents they stand for are really there."""
        held = (
            self.revalidate
            and prior is not None
            and (prior.etag or prior.last_modified)
            and prior.source == task.source.name
            and any(True for _ in self.warehouse.ids(crawled_from=task.link))
        )
        etag, last_modified = (prior.etag, prior.last_modified) if held and prior else (None, None)
        return Target(task.link, task.url, etag, last_modified, task.options)

    def store(self, delivery: Delivery) -> None:
        task = delivery.task
        progress = self.in_flight[task.link]
        documents = [document for document in delivery.documents if progress.is_new(document.id)]
        if again := len(delivery.documents) - len(documents):
            self.skipped["same link again"] += again
        if documents:
            put = self.warehouse.put(documents)
            progress.inserted += put.inserted
            progress.updated += put.updated
            progress.unchanged += put.unchanged
        self.skipped.update(delivery.skipped)
        if delivery.last:
            del self.in_flight[task.link]
            self.counts.update(
                documents_inserted=progress.inserted,
                documents_updated=progress.updated,
                documents_unchanged=progress.unchanged,
            )
            self.settle(delivery, progress)

    def settle(self, delivery: Delivery, progress: _Progress) -> None:
        task, prior, error = delivery.task, progress.prior, delivery.error
        if delivery.not_modified:
            kept = {"etag": prior.etag, "last_modified": prior.last_modified} if prior else {}
            self.won(task, prior, Outcome.UNCHANGED, prior.documents if prior else 0, **kept)
        elif error is None:
            removed = self.remove(task, keep=progress.ids) if task.source.whole else 0
            changed = progress.inserted or progress.updated or removed
            outcome = Outcome.READ if changed else Outcome.UNCHANGED
            validators = {"etag": delivery.etag, "last_modified": delivery.last_modified}
            self.won(task, prior, outcome, len(progress.ids), **validators)
        elif error.reason == Reason.NOT_FOUND and prior and prior.last_success:
            self.remove(task, keep=set())
            self.won(task, prior, Outcome.GONE, 0)
        else:
            self.lost(task.link, task.url, task.source.name, prior, error, stale=bool(progress.ids))

    def remove(self, task: Task, *, keep: set[str]) -> int:
        stale = [one for one in self.warehouse.ids(crawled_from=task.link) if one not in keep]
        removed = self.warehouse.delete(stale) if stale else 0
        self.counts["documents_deleted"] += removed
        return removed

    def list_read(self, event: ListRead) -> None:
        """A feed or handle that failed before can be read again: it is no dead letter any more."""
        prior = self.ledger.entry(event.link)
        if prior and prior.outcome not in GOOD:
            self.record(event.link, event.link, event.source, prior, outcome=Outcome.READ, last_success=self.clock())

    def won(
        self, task: Task, prior: LedgerEntry | None, outcome: Outcome, documents: int, **validators: str | None
    ) -> None:
        self.counts[outcome] += 1
        self.record(
            task.link, task.url, task.source.name, prior, outcome=outcome, last_success=self.clock(),
            documents=documents, found_in=task.found_in, **validators,
        )  # fmt: skip

    def lost(
        self, link: str, url: str, source: str, prior: LedgerEntry | None, error: SourceError, *, stale: bool = False
    ) -> None:
        """`stale`: some documents are newer than the validators, which therefore go."""
        self.failed(link, error)
        logger.warning("{}: {} not read: {} {}", self.author.name, link, error.reason, error.detail)
        kept = prior.model_dump(include={"last_success", "documents", "found_in"}) if prior else {}
        if prior and not stale:
            kept |= {"etag": prior.etag, "last_modified": prior.last_modified}
        self.record(
            link, url, source, prior, outcome=Outcome.FAILED if error.retry else Outcome.DEAD, reason=error.reason,
            detail=error.detail, attempts=(prior.attempts if prior else 0) + 1, **kept,
        )  # fmt: skip

    def failed(self, link: str, error: SourceError) -> None:
        self.counts["failed"] += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(link=link, reason=error.reason, detail=error.detail, retry=error.retry))

    def record(self, link: str, url: str, source: str, prior: LedgerEntry | None, **fields) -> None:
        at = self.clock()
        entry = LedgerEntry(
            link=link, url=url, author_id=self.author.id, author_name=self.author.name, source=source,
            first_seen=prior.first_seen if prior else at, last_attempt=at, **fields,
        )  # fmt: skip
        self.unwritten.append(entry)
        if self.on_progress:
            self.on_progress(self.report())

    def write(self) -> None:
        if self.unwritten:
            self.ledger.record(self.unwritten)
            self.unwritten = []

    def report(self) -> CrawlReport:
        done = {name: self.counts[name] for name in ("read", "unchanged", "gone", "failed", "resumed")}
        written = {f"documents_{name}": self.counts[f"documents_{name}"] for name in
                   ("inserted", "updated", "unchanged", "deleted")}  # fmt: skip
        return CrawlReport(
            author=self.author.name, links=sum(done.values()), **done, **written,
            bodies_downloaded=self.traffic.bodies, bytes_downloaded=self.traffic.bytes, skipped=dict(self.skipped),
            by_source=dict(self.by_source), failures=tuple(self.failures), started_at=self.started,
            seconds=perf_counter() - self.timer,
        )  # fmt: skip
