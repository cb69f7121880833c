"""`poe forget --author NAME [--with-models]`: erase an author everywhere, and say what was erased and what was not.

Safe to repeat, also after a failure half-way. Exit code 0: erased. 1: nothing or not everything was erased, and why.
2: a setting or the command line is wrong.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ports import Erased, PersonalData
from llm_engineering.domain.text import printable
from tools.command import errors_as_exit_codes
from tools.terminal import plain, say

if TYPE_CHECKING:
    from llm_engineering.bootstrap import PersonalDataStore, Platform

YOURS = "Yours to delete: the author's lines in configs/, or the next run reads them again; exports and backups."


class Outcome(NamedTuple):
    """`error`: why a store could not be counted or erased; empty when it could."""

    store: "PersonalDataStore"
    done: Erased
    error: str = ""


@click.command()
@click.option("--author", required=True, help="As in the config; case and extra spaces do not matter.")
@click.option("--with-models", is_flag=True, help="Also archive the models that were trained on their writing.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
def forget(author: str, with_models: bool, yes: bool) -> None:
    """Erase an author everywhere: what was crawled, indexed, asked and answered, and what runs left behind."""
    from llm_engineering.bootstrap import open_platform

    with errors_as_exit_codes(), open_platform() as platform:
        sys.exit(_forget(platform, author, confirm=not yes, with_models=with_models))


def _forget(platform: "Platform", author: str, *, confirm: bool, with_models: bool) -> int:
    from tools.erasure import begin, finish, identify, is_pending

    if not author.strip():
        raise LLMTwinError("--author: a name, as in the config")
    subject = identify(platform, author)
    stores = platform.personal_data(archive_models=with_models)
    found = [_try(store, lambda kept: Erased(kept.holds(subject))) for store in stores]
    if not is_pending(platform, subject) and not any(one.done.number or one.error for one in found):
        raise LLMTwinError(f"there is no author {author!r}. Known: {', '.join(_known(platform)) or 'nobody yet'}")
    if confirm:
        what = ", ".join(f"{one.done.number:,} {one.store.unit}" for one in found if one.done.number)
        click.confirm(f"Erase {printable(author)} for ever ({what or 'what an earlier try left'})?", abort=True)
    begin(platform, subject)
    in_order = sorted(stores, key=lambda store: store.is_derived)
    erased = [_try(store, lambda kept: kept.erase(subject)) for store in in_order]
    _show(author, erased)
    if any(one.error for one in erased):
        return 1
    finish(platform, subject)
    return 0


def _try(store: "PersonalDataStore", do: Callable[[PersonalData], Erased]) -> Outcome:
    """One store that is down does not keep the others from being erased."""
    try:
        return Outcome(store, do(store.open()))
    except LLMTwinError as error:
        return Outcome(store, Erased(0), str(error))


def _known(platform: "Platform") -> list[str]:
    names = set(platform.warehouse.authors()) | {entry.author_name for entry in platform.ledger.entries()}
    return sorted(names, key=str.casefold)


def _show(author: str, erased: list[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=plain(f"erased of {author}"), title_justify="left", show_header=False)
    for one in erased:
        table.add_row(
            one.store.name, "[bold red]NOT ERASED[/]" if one.error else f"{one.done.number:,} {one.store.unit}"
        )
    Console().print(table)
    for remains in dict.fromkeys(one.done.remains for one in erased if one.done.remains):
        say(f"Not reached: {remains}")
    say(YOURS)
    for one in erased:
        if one.error:
            say(f"{one.store.name} was not erased: {one.error}", err=True)
    if any(one.error for one in erased):
        say("run the same command again when that is mended", err=True)


if __name__ == "__main__":
    forget()
