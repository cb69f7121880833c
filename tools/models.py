"""`poe models list | register NAME FOLDER | promote NAME VERSION`: the model registry.

Exit code 0: done. 1: it could not be done, and says why. 2: the command line, a folder or a setting is wrong.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.models import AUTHORS, ModelVersion, Stage
from tools.command import errors_as_exit_codes
from tools.terminal import plain, say, say_json

if TYPE_CHECKING:
    from llm_engineering.domain.ports import Registry


@click.group()
def models() -> None:
    """Versions of models, and which of them is in use."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs: one list of versions.")
def list_command(as_json: bool) -> None:
    """Every version, newest first."""
    with errors_as_exit_codes():
        found = _open_registry().versions()
    if as_json:
        say_json([_as_fields(one) for one in found], indent=2)
    elif found:
        _table(found)
    else:
        say("the registry is empty: `poe models register NAME FOLDER` puts a model in")


@models.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--fact", "facts", multiple=True, metavar="KEY=VALUE", help="What is known of it; may be repeated.")
@click.option("--author", "authors", multiple=True, help="Whose writing it was trained on; may be repeated.")
def register(name: str, folder: Path, facts: tuple[str, ...], authors: tuple[str, ...]) -> None:
    """Copy the transformers model in FOLDER into the registry, as the next version of NAME."""
    with errors_as_exit_codes():
        known = dict(map(_fact, facts))
        if authors:
            known[AUTHORS] = " ".join(sorted({Author(name=one).id for one in authors}))
        done = _open_registry().register(name, folder, facts=known)
    say(f"{done} is registered ({done.size / 1e6:,.1f} MB)")
    if done.stage is None:
        say(f"`poe models promote {done.name} {done.version}` puts it in use")


@models.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@click.option(
    "--stage", type=click.Choice([str(one) for one in Stage]), default=str(Stage.PRODUCTION), show_default=True
)
def promote(name: str, version: int, stage: str) -> None:
    """Put VERSION of NAME in a stage; the one that was there is archived."""
    with errors_as_exit_codes():
        done = _open_registry().promote(name, version, Stage(stage))
    say(f"{done}: {done.stage}")
    if done.stage is not Stage.ARCHIVED:
        reference = done.name if done.stage is Stage.PRODUCTION else f"{done.name}@{done.stage}"
        say(f"TWIN_LANGUAGE_MODEL=registry:{reference} answers with it; a running server follows")


def _open_registry() -> "Registry":
    from llm_engineering.bootstrap import build_registry

    return build_registry()


def _fact(text: str) -> tuple[str, str | float]:
    key, mark, value = text.partition("=")
    if not (key and mark):
        raise ConfigError(f"--fact {text}: write KEY=VALUE, as loss=0.71")
    try:
        return key, float(value)
    except ValueError:
        return key, value


def _as_fields(version: ModelVersion) -> dict[str, object]:
    from llm_engineering.infrastructure.weights import damage

    return {**version.model_dump(mode="json"), "damage": damage(version)}


def _table(versions: list[ModelVersion]) -> None:
    from rich.console import Console
    from rich.table import Table

    from llm_engineering.infrastructure.weights import damage

    table = Table("model", "version", "stage", "registered", "size", "what is known of it", box=None)
    for one in versions:
        facts = [
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.facts.items()
        ]
        flag = "[bold red]an author of its training data was erased[/] " if one.erased_authors else ""
        wrong = damage(one)
        known = f"[bold red]damaged: {plain(wrong)}[/]" if wrong else flag + plain(", ".join(facts))
        size = f"{one.size / 1e6:,.1f} MB"
        table.add_row(plain(one.name), str(one.version), one.stage or "", f"{one.created:%Y-%m-%d %H:%M}", size, known)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    models()
