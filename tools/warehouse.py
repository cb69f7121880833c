"""`poe warehouse export PATH` and `poe warehouse import PATH`: back up and move the warehouse with its ledger.

Exit code 0: done. 1: it could not be done, and says why. 2: the command line or a setting is wrong.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.text import redacted_url
from tools.command import errors_as_exit_codes
from tools.terminal import plain, say

if TYPE_CHECKING:
    from llm_engineering.bootstrap import Platform
    from llm_engineering.domain.ports import Restored


@click.group()
def warehouse() -> None:
    """Back up and move the warehouse (what was crawled) with its ledger (what happened to each link)."""


@warehouse.command("export")
@click.argument("path", type=click.Path(path_type=Path))
def export_command(path: Path) -> None:
    """Write everything to PATH (.jsonl, or .jsonl.gz to compress), replacing it only when all is written."""
    from llm_engineering.infrastructure.warehouse.transfer import export_warehouse

    with errors_as_exit_codes(), _opened(new=False) as twin:
        with _progress("exporting", total=twin.warehouse.count()) as step:
            done = export_warehouse(twin.warehouse, twin.ledger, path, progress=step)
        _table(
            f"exported to {path}",
            ("documents", f"{done.documents:,}"),
            ("ledger entries", f"{done.entries:,}"),
            ("size", f"{done.bytes / 1e6:,.1f} MB"),
            ("sha256", done.sha256),
        )


@warehouse.command("import")
@click.argument("path", type=click.Path(path_type=Path))
def import_command(path: Path) -> None:
    """Add what PATH holds. The whole file is checked before anything is written; what is newer here stays."""
    from llm_engineering.infrastructure.warehouse.transfer import check_export, import_warehouse

    with errors_as_exit_codes():
        with _progress("checking", total=None) as step:
            rows = check_export(path, progress=step)
        with _opened(new=True) as twin:
            with _progress("importing", total=sum(rows)) as step:
                done = import_warehouse(twin.warehouse, twin.ledger, path, progress=step)
            _table(f"imported from {path}", *_rows("documents", done.documents), *_rows("ledger entries", done.entries))
            if newer := done.documents.newer + done.entries.newer:
                say(f"{newer:,} are newer here than in the file, and were left as they are")


def _rows(what: str, done: "Restored") -> list[tuple[str, str]]:
    return [
        (f"{what}, {how.replace('newer', 'newer here, left alone')}", f"{n:,}") for how, n in done._asdict().items()
    ]


@contextmanager
def _opened(*, new: bool) -> "Generator[Platform]":
    """The platform. `new` False: the warehouse has to be there already."""
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.operate.plans import store_exists
    from llm_engineering.settings import load_settings

    settings = load_settings()
    if not new and not store_exists(settings.warehouse_url):
        where = redacted_url(settings.warehouse_url)
        raise ConfigError(f"there is no warehouse at {where} yet: run `poe run-etl`, or set TWIN_WAREHOUSE")
    with open_platform(settings) as twin:
        yield twin


@contextmanager
def _progress(what: str, *, total: int | None) -> Generator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _table(title: str, *rows: tuple[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=plain(title), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    warehouse()
