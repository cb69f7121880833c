"""What a person sees while a run goes on, and at its end."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from llm_engineering.domain.runs import Report, RunRecord
from llm_engineering.domain.text import duration_text
from steps.run_control import listeners
from tools.terminal import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

FAILURES_SHOWN = 5  # per part; the HTML report and `poe crawl-status` have them all


@contextmanager
def live(console: "Console") -> Generator[None]:
    """One line per part of the run, redrawn in place. Elsewhere than on a terminal the log says what is lost as it
    happens, and the counts come at the end."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[so_far]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        lines: dict[str, TaskID] = {}
        lock = threading.Lock()  # the steps are threads of their own

        def show(part: str, so_far: str) -> None:
            with lock:
                if part not in lines:
                    lines[part] = progress.add_task(plain(part), total=None, so_far="")
                progress.update(lines[part], so_far=plain(so_far))

        listeners.append(show)
        try:
            with errors_above_progress() if console.is_terminal else nullcontext():
                yield
        finally:
            listeners.remove(show)


@contextmanager
def errors_above_progress() -> Generator[None]:
    """Of the log only errors, through the standard error that rich has put above its lines: the rest is in the table
    at the end."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    try:
        yield
    finally:
        logger.remove()
        logger.add(sys.__stderr__ or sys.stderr)


def show_record(console: "Console", record: RunRecord) -> None:
    """The counts of a finished run, one table per kind of report, and the first failures with their reasons."""
    for kind in dict.fromkeys(type(report) for report in record.reports):
        reports = record.of(kind)
        console.print(table_of(reports))
        for report in reports:
            _show_failures(console, report)


def table_of(reports: list[Report]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False, collapse_padding=True)
    table.add_column("")
    for title in (*reports[0].counts(), "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for report in reports:
        table.add_row(plain(report.part), *(f"{n:,}" for n in report.counts().values()), duration_text(report.seconds))
    return table


def _show_failures(console: "Console", report: Report) -> None:
    for failure in report.failures[:FAILURES_SHOWN]:
        again = "" if failure.retry else " (needs a change first)"
        console.print(
            f"  [red]{failure.reason}[/red] {plain(failure.link)} {plain(failure.detail)}{again}", soft_wrap=True
        )
    if (more := report.failed - FAILURES_SHOWN) > 0:
        console.print(f"  … and {more:,} more of {plain(report.part)}: poe crawl-status", soft_wrap=True)
