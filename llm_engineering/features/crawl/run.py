"""Reads an author's links into the warehouse, and writes down what happened to each. See docs/crawl.md."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import AuthorErased, TooFewRead
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import FetchContext, Ledger, Warehouse
from llm_engineering.domain.runs import CrawlReport
from llm_engineering.features.config import AuthorConfig
from llm_engineering.features.crawl.coordinator import CrawlCoordinator
from llm_engineering.features.crawl.expand_links import expand_links
from llm_engineering.features.crawl.host_queue import Assignment
from llm_engineering.features.crawl.read_link import Delivery, read_link
from llm_engineering.features.crawl.recorder import CrawlRecorder
from llm_engineering.features.crawl.threads import CrawlThreads
from llm_engineering.features.crawl.traffic import Traffic
from llm_engineering.features.sources import SOURCES, Source

RESUME_WITHIN = timedelta(days=1)  # an unfinished run older than this is not gone on with: its pages are old


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
    was read or there was no link at all; ConfigError before anything is asked; StoreUnavailable at once; AuthorErased
    when the author is erased meanwhile, of whom nothing is stored then. The stores are only written on the calling
    thread.
    """
    owner, traffic = Author(name=author.name), Traffic(context)
    known = partial(ledger.entries, author_id=owner.id)
    links = expand_links(author, context=traffic.context, sources=sources, known=known)
    fingerprint = content_hash(author.model_dump_json(), "revalidate" if revalidate else "full")
    run = CrawlCoordinator(
        author=owner,
        warehouse=warehouse,
        ledger=ledger,
        began=_begin(ledger, owner.id, fingerprint, clock),
        revalidate=revalidate,
        retry_failed=retry_failed,
        clock=clock,
        recorder=CrawlRecorder(owner, ledger, traffic, clock=clock, on_progress=on_progress),
    )

    def read(assignment: Assignment) -> Iterator[Delivery]:
        return read_link(assignment.task, assignment.target, author=owner, context=traffic.context)

    with CrawlThreads(links, read, concurrency=concurrency, stop=stop) as threads:
        try:
            run.process_events(threads)
        except KeyboardInterrupt:
            run.recorder.flush()  # what was in flight is asked again by the next run
            raise
        except AuthorErased:
            ledger.finish(owner.id, fingerprint)  # names the author, too
            raise
    report = run.recorder.report()
    if threads.stopped:
        return report.model_copy(update={"red": "stopped before the end; run again and it goes on from here"})
    ledger.finish(owner.id, fingerprint)
    if red := _too_few(report, min_success_rate):
        raise TooFewRead(red, report.model_copy(update={"red": red}))
    return report


def _begin(ledger: Ledger, author_id: str, fingerprint: str, clock: Callable[[], datetime]) -> datetime:
    began = ledger.begin(author_id, fingerprint)
    if not timedelta(0) <= clock() - began <= RESUME_WITHIN:  # in the future: a clock was set back since
        ledger.finish(author_id, fingerprint)
        began = ledger.begin(author_id, fingerprint)
    return began


def _too_few(report: CrawlReport, min_success_rate: float) -> str:
    """Why the run is red; "" when it is not."""
    if not report.links:
        return f"{report.author}: no link was found; is the config right?"
    read = report.links - report.failed
    if read / report.links >= min_success_rate:
        return ""
    example: dict[Reason, str] = {}
    for failure in report.failures:
        example.setdefault(failure.reason, f"{failure.link}: {failure.detail}" if failure.detail else failure.link)
    reasons = Counter(failure.reason for failure in report.failures).most_common(3)
    return (
        f"{report.author}: {read} of {report.links} links were read, min_success_rate wants {min_success_rate:.0%}."
        + "".join(f"\n  {count} {reason}, such as {example[reason]}" for reason, count in reasons)
        + "\nWhat was read is stored. `poe crawl-status` lists every failed link and what to do about it."
    )
