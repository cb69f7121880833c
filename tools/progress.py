"""What a person sees while a run goes on, and at its end."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.ledger import LedgerEntry, Outcome
from llm_engineering.domain.runs import CrawlReport, FeatureReport
from steps import watching
from steps.report_page import duration
from steps.run_record import RunRecord
from steps.watching import listeners

if TYPE_CHECKING:
    from rich.console import Console

FAILURES_SHOWN = 5  # per author; the HTML report and `poe crawl-status` have them all


@contextmanager
def live(console: "Console") -> Iterator[None]:
    """One line per author and one for the features, redrawn in place. Elsewhere than on a terminal what is lost is
    logged as it happens, and the counts come at the end."""
    from loguru import logger
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[so_far]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        lines: dict[str, Any] = {}
        counts: defaultdict[str, Counter[Outcome]] = defaultdict(Counter)
        lock = threading.Lock()  # the authors' steps are threads of their own

        def show(event: LedgerEntry | FeatureReport) -> None:
            what = event.author_name if isinstance(event, LedgerEntry) else "features"
            with lock:
                if isinstance(event, LedgerEntry):
                    counts[what][event.outcome] += 1
                    text = links_so_far(counts[what])
                else:
                    text = features_so_far(event)
                if what not in lines:
                    lines[what] = progress.add_task(plain(what), total=None, so_far="")
                progress.update(lines[what], so_far=text)

        listeners.append(show)
        if console.is_terminal:
            logger.disable(watching.__name__)  # it would write over the lines; the table at the end has it
        try:
            yield
        finally:
            listeners.remove(show)
            logger.enable(watching.__name__)


def links_so_far(counts: "Counter[Outcome]") -> str:
    failed = counts[Outcome.FAILED] + counts[Outcome.DEAD]
    return f"{counts.total() - failed:,} links" + (f", {failed:,} failed" if failed else "")


def features_so_far(report: FeatureReport) -> str:
    return f"{report.documents_indexed:,} documents, {report.chunks_embedded:,} passages embedded"


def show_record(console: "Console", record: RunRecord) -> None:
    """The counts of a finished run, and the first failures of each author with their reasons."""
    if record.crawls:
        console.print(_crawl_table(record.crawls))
        for report in record.crawls:
            _show_failures(console, report)
    if record.features:
        _show_features(console, record.features)


def _crawl_table(reports: list[CrawlReport]):
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("author")
    for title in ("links", "read", "same", "gone", "failed", "new", "changed", "removed", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for report in reports:
        counts = report.links, report.read, report.unchanged + report.resumed, report.gone, report.failed
        documents = report.documents_inserted, report.documents_updated, report.documents_deleted
        table.add_row(plain(report.author), *(f"{n:,}" for n in (*counts, *documents)), duration(report.seconds))
    return table


def _show_failures(console: "Console", report: CrawlReport) -> None:
    for failure in report.failures[:FAILURES_SHOWN]:
        again = "" if failure.retry else " (needs a change first)"
        console.print(
            f"  [red]{failure.reason}[/red] {plain(failure.link)} {plain(failure.detail)}{again}", soft_wrap=True
        )
    if (more := report.failed - FAILURES_SHOWN) > 0:
        console.print(f"  … and {more:,} more of {plain(report.author)}: poe crawl-status", soft_wrap=True)


def _show_features(console: "Console", report: FeatureReport) -> None:
    console.print(
        f"features: {report.documents_indexed:,} documents indexed, {report.documents_unchanged:,} unchanged,"
        f" {report.documents_removed:,} removed, {report.empty:,} empty after cleaning;"
        f" {report.chunks_embedded:,} passages embedded, {report.chunks_reused:,} reused;"
        f" {report.chunks_total:,} in the index ({duration(report.seconds)})",
        soft_wrap=True,
        highlight=False,
    )


def plain(text: str) -> str:
    """Text from outside: no markup, no control characters that would move the cursor."""
    from rich.markup import escape

    return escape("".join(letter for letter in text if letter.isprintable()))
