"""`poe forget --author NAME`: erase an author from the warehouse, the vectors and the ledger, and say what was erased.

Safe to repeat, also after a failure half-way. Exit code 0: erased. 1: nothing or not everything was erased, and why.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import ConfigError, LLMTwinError

if TYPE_CHECKING:
    from llm_engineering.bootstrap import Platform


class Place(NamedTuple):
    """One home of an author's work. Both functions take the author's id."""

    name: str
    unit: str
    count: Callable[[str], int]
    erase: Callable[[str], int]


class Answer(NamedTuple):
    """How many, or why that cannot be told."""

    place: Place
    number: int
    error: str = ""


@click.command()
@click.option("--author", required=True, help="As in the config; case and extra spaces do not matter.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
def forget(author: str, yes: bool) -> None:
    """Erase an author everywhere: documents, passages, and what happened to their links."""
    from llm_engineering.bootstrap import open_platform

    try:
        with open_platform() as twin:
            sys.exit(_forget(twin, author, ask=not yes))
    except LLMTwinError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _forget(twin: "Platform", author: str, *, ask: bool) -> int:
    if not author.strip():
        raise ConfigError("--author: a name, as in the config")
    author_id = Author(name=author).id
    found = [_asked(place, place.count, author_id) for place in places(twin)]
    nothing = not any(answer.number or answer.error for answer in found)
    if ask and not nothing:
        what = ", ".join(f"{a.number:,} {a.place.unit}" for a in found if not a.error)
        click.confirm(f"Erase {author} for ever ({what})?", abort=True)
    # with nothing found too: an earlier try may have left copies in a log, or an index that was never published
    erased = [_asked(place, place.erase, author_id) for place in places(twin)]
    if nothing and not any(answer.number or answer.error for answer in erased):
        raise ConfigError(f"there is no author {author!r}. Known: {', '.join(known(twin)) or 'nobody yet'}")
    _show(author, erased)
    return 1 if any(answer.error for answer in erased) else 0


def places(twin: "Platform") -> tuple[Place, ...]:
    return (
        Place(
            "warehouse",
            "documents",
            lambda id_: twin.warehouse.count(author_id=id_),
            lambda id_: twin.warehouse.erase(id_),
        ),
        Place("vectors", "passages", lambda id_: _passages(twin, id_), lambda id_: _erase_passages(twin, id_)),
        Place(
            "ledger",
            "links",
            lambda id_: sum(1 for _ in twin.ledger.entries(author_id=id_)),
            lambda id_: twin.ledger.erase(id_),
        ),
    )


def _passages(twin: "Platform", author_id: str) -> int:
    if not _indexed(twin):
        return 0
    reader = twin.vectors.reader()
    try:
        return reader.count(Where(author_id=author_id)) if reader.info() else 0
    finally:
        reader.close()


def _erase_passages(twin: "Platform", author_id: str) -> int:
    return twin.vectors.erase(author_id) if _indexed(twin) else 0


def _indexed(twin: "Platform") -> bool:
    from llm_engineering.operate.plans import store_exists

    return store_exists(twin.settings.vectors_url)


def _asked(place: Place, ask: Callable[[str], int], author_id: str) -> Answer:
    """One place that is down does not keep the others from being erased."""
    try:
        return Answer(place, ask(author_id))
    except LLMTwinError as error:
        return Answer(place, 0, str(error))


def known(twin: "Platform") -> list[str]:
    names = set(twin.warehouse.authors()) | {entry.author_name for entry in twin.ledger.entries()}
    return sorted(names, key=str.casefold)


def _show(author: str, erased: list[Answer]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"erased of {author}"), title_justify="left", show_header=False)
    for answer in erased:
        number = "[bold red]NOT ERASED[/]" if answer.error else f"{answer.number:,} {answer.place.unit}"
        table.add_row(answer.place.name, number)
    Console().print(table)
    for answer in erased:
        if answer.error:
            click.echo(f"{answer.place.name} was not erased: {answer.error}", err=True)
    if any(answer.error for answer in erased):
        click.echo("run the same command again when that is mended", err=True)


if __name__ == "__main__":
    forget()
