"""What a person sees while a run goes on, and at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llm_engineering.domain.reports import CrawlReport, FeatureReport
from steps.report_page import duration, size
from steps.run_record import RunRecord, listeners

if TYPE_CHECKING:
    from rich.console import Console

FAILURES_SHOWN = 5  # per author; the HTML report and `poe crawl-status` have them all


@contextmanager
def live(console: "Console") -> Iterator[None]:
    """One line per author and one for the features, redrawn in place; on a pipe, nothing until the end."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[so_far]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        lines: dict[str, object] = {}

        def show(what: str, report: CrawlReport | FeatureReport) -> None:
            if what not in lines:
                lines[what] = progress.add_task(_plain(what), total=None, so_far="")
            progress.update(lines[what], so_far=so_far(report))

        listeners.append(show)
        try:
            yield
        finally:
            listeners.remove(show)


def so_far(report: CrawlReport | FeatureReport) -> str:
    if isinstance(report, CrawlReport):
        done = report.read + report.unchanged + report.gone + report.resumed
        failed = f", {report.failed:,} failed" if report.failed else ""
        return f"{done:,} of {report.links:,} links{failed}, {size(report.bytes_downloaded)}"
    return f"{report.documents_indexed:,} documents indexed, {report.chunks_embedded:,} passages embedded"


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
        table.add_row(_plain(report.author), *(f"{n:,}" for n in (*counts, *documents)), duration(report.seconds))
    return table


def _show_failures(console: "Console", report: CrawlReport) -> None:
    for failure in report.failures[:FAILURES_SHOWN]:
        again = "" if failure.retry else " (needs a change first)"
        console.print(
            f"  [red]{failure.reason}[/red] {_plain(failure.link)} {_plain(failure.detail)}{again}", soft_wrap=True
        )
    if (more := report.failed - FAILURES_SHOWN) > 0:
        console.print(f"  … and {more:,} more of {_plain(report.author)}: poe crawl-status", soft_wrap=True)


def _show_features(console: "Console", report: FeatureReport) -> None:
    console.print(
        f"features: {report.documents_indexed:,} documents indexed, {report.documents_unchanged:,} unchanged,"
        f" {report.documents_removed:,} removed, {report.empty:,} empty after cleaning;"
        f" {report.chunks_embedded:,} passages embedded, {report.chunks_reused:,} reused;"
        f" {report.chunks_total:,} in the index ({duration(report.seconds)})",
        soft_wrap=True,
        highlight=False,
    )


def _plain(text: str) -> str:
    """Text from outside: no markup, no control characters that would move the cursor."""
    from rich.markup import escape

    return escape("".join(letter for letter in text if letter.isprintable()))
