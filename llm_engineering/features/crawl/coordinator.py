"""Decides which links of a run are asked, and stores what they give."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import LedgerEntry, Outcome, Reason
from llm_engineering.domain.ports import Ledger, Warehouse
from llm_engineering.features.crawl.expand_links import ListRead, Task, UnreadableLink
from llm_engineering.features.crawl.host_queue import Assignment
from llm_engineering.features.crawl.read_link import Delivery
from llm_engineering.features.crawl.recorder import GOOD, NO_VALIDATORS, CrawlRecorder, Validators
from llm_engineering.features.crawl.threads import CrawlThreads
from llm_engineering.features.sources import Target

RETRY_DEAD_AFTER = timedelta(days=7)  # a link that is dead for a reason of the site's is left alone for so long

# Dead for a reason of ours: a setting, a file, a key or the code may have changed since, so every run asks them.
FIXABLE_HERE = (
    Reason.BAD_ARCHIVE, Reason.BAD_LINK, Reason.BLOCKED_ADDRESS, Reason.BROWSER, Reason.GIT, Reason.INTERNAL_ERROR,
    Reason.LOADER, Reason.LOGIN, Reason.MISSING_CREDENTIALS, Reason.MISSING_FILE, Reason.NEEDS_JAVASCRIPT,
    Reason.ROBOTS, Reason.TOO_LARGE,
)  # fmt: skip


@dataclass
class _LinkProgress:
    """Of a link in flight."""

    prior: LedgerEntry | None
    counts: Counter[str] = field(default_factory=Counter)  # documents inserted, updated, unchanged
    ids: set[str] = field(default_factory=set)

    def is_new(self, document_id: str) -> bool:
        """Of two documents of one link the first counts: taking both would make a revision in every run."""
        before = len(self.ids)
        self.ids.add(document_id)
        return len(self.ids) > before


@dataclass(kw_only=True)
class CrawlCoordinator:
    """Lives on one thread, which alone writes the stores. `began`: what was read since then is not asked again."""

    author: Author
    warehouse: Warehouse
    ledger: Ledger
    began: datetime
    revalidate: bool
    retry_failed: bool
    clock: Callable[[], datetime]
    recorder: CrawlRecorder
    in_flight: dict[str, _LinkProgress] = field(default_factory=dict)

    def process_events(self, threads: CrawlThreads) -> None:
        for event in threads.events():
            match event:
                case Task():
                    self.submit_or_skip(event, threads)
                case UnreadableLink():
                    self.recorder.failure(event.ref, self.ledger.entry(event.link), event.error)
                    threads.skip()
                case ListRead():
                    self.recorder.list_read(event.ref, self.ledger.entry(event.link))
                    threads.skip()
                case Delivery():
                    self.store(event)
            self.recorder.flush_if(threads.idle)
        self.recorder.flush()

    def submit_or_skip(self, task: Task, threads: CrawlThreads) -> None:
        """Ask the link, unless this run has, it belongs to another author, or it is left alone as dead."""
        prior = self.ledger.entry(task.link)
        self.recorder.by_source[task.source.name] += 1
        if prior and prior.author_id != self.author.id and prior.last_success:
            detail = f"belongs to {prior.author_name} already; list it under one author (or forget that one)"
            self.recorder.count_failure(task.link, SourceError(task.link, Reason.BAD_LINK, detail, retry=False))
        elif prior and prior.outcome in GOOD and self.was_read_by_this_run(prior.last_success):
            self.recorder.counts["resumed"] += 1
        elif prior and prior.reason and self.is_left_alone(prior):
            detail = f"{prior.detail}; not asked again since {prior.last_attempt:%Y-%m-%d}, --retry-failed does"
            error = SourceError(task.link, prior.reason, detail.lstrip("; "), retry=False)
            self.recorder.count_failure(task.link, error)
        else:
            self.in_flight[task.link] = _LinkProgress(prior)
            threads.submit(Assignment(task, self.target_of(task, prior)))
            return
        threads.skip()

    def was_read_by_this_run(self, last_success: datetime | None) -> bool:
        """A time that is still to come says that a clock was set back since: it counts as none."""
        return last_success is not None and self.began <= last_success <= self.clock()

    def is_left_alone(self, prior: LedgerEntry) -> bool:
        if self.retry_failed or prior.outcome != Outcome.DEAD or prior.reason in FIXABLE_HERE:
            return False
        return timedelta(0) <= self.clock() - prior.last_attempt < RETRY_DEAD_AFTER

    def target_of(self, task: Task, prior: LedgerEntry | None) -> Target:
        """With validators only while the documents they stand for are really there."""
        validators = NO_VALIDATORS
        if (
            self.revalidate
            and prior is not None
            and (prior.etag or prior.last_modified)
            and prior.source == task.source.name
            and any(True for _ in self.warehouse.ids(crawled_from=task.link))
        ):
            validators = Validators(prior.etag, prior.last_modified)
        return Target(task.link, task.url, validators.etag, validators.last_modified, task.options)

    def store(self, delivery: Delivery) -> None:
        progress = self.in_flight[delivery.task.link]
        documents = [document for document in delivery.documents if progress.is_new(document.id)]
        if repeats := len(delivery.documents) - len(documents):
            self.recorder.skipped["same link again"] += repeats
        if documents:
            progress.counts.update(self.warehouse.put(documents)._asdict())
        self.recorder.skipped.update(delivery.skipped)
        if delivery.last:
            del self.in_flight[delivery.task.link]
            self.recorder.counts.update({f"documents_{what}": count for what, count in progress.counts.items()})
            self.conclude(delivery, progress)

    def conclude(self, delivery: Delivery, progress: _LinkProgress) -> None:
        """The outcome of a link whose last documents are stored."""
        task, prior, error = delivery.task, progress.prior, delivery.error
        success = partial(self.recorder.success, task.ref, prior, found_in=task.found_in)
        if delivery.not_modified:
            kept = Validators(prior.etag, prior.last_modified) if prior else NO_VALIDATORS
            success(Outcome.UNCHANGED, documents=prior.documents if prior else 0, validators=kept)
        elif error is None:
            removed = self.remove_documents(task, keep=progress.ids) if task.source.complete else 0
            changed = progress.counts["inserted"] or progress.counts["updated"] or removed
            validators = Validators(delivery.etag, delivery.last_modified)
            outcome = Outcome.READ if changed else Outcome.UNCHANGED
            success(outcome, documents=len(progress.ids), validators=validators)
        elif error.reason == Reason.NOT_FOUND and prior and prior.last_success:
            self.remove_documents(task, keep=set())
            success(Outcome.GONE)
        else:
            self.recorder.failure(task.ref, prior, error, partly_stored=bool(progress.ids))

    def remove_documents(self, task: Task, *, keep: set[str]) -> int:
        stale = [one for one in self.warehouse.ids(crawled_from=task.link) if one not in keep]
        removed = self.warehouse.delete(stale) if stale else 0
        self.recorder.counts["documents_deleted"] += removed
        return removed
