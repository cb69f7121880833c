"""`poe doctor`: every configured piece, whether it works, and how to mend what does not. Exit code 1 if it must be."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import click

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.text import redacted_url
from llm_engineering.operate.plans import store_exists
from llm_engineering.settings import Settings, load_settings

LITTLE_SPACE = 2_000_000_000  # bytes; the embedded stores of a few thousand pages take some hundred MB


class State(StrEnum):
    FINE = "fine"
    NOTE = "note"  # something optional is missing, or waits to be done
    BROKEN = "broken"


class Finding(Noun):
    """One piece: what was found, and how to mend it unless it is fine."""

    piece: str
    state: State
    found: str
    mend: str = ""


class CheckFailed(Exception):
    """A check's own answer when its piece does not work."""

    def __init__(self, found: str, mend: str, *, state: State = State.BROKEN) -> None:
        super().__init__(found)
        self.found, self.mend, self.state = found, mend, state


class Check(NamedTuple):
    """`look` returns what it found, or raises. A piece that is not `required` can only make a note."""

    piece: str
    look: Callable[[Settings], str]
    required: bool = True


def examine(checks: tuple[Check, ...]) -> Iterator[Finding]:
    """Each check by itself: whatever happens in one, the others are done too."""
    try:
        settings = load_settings()
    except LLMTwinError as error:
        yield Finding(piece="settings", state=State.BROKEN, found=str(error), mend="correct the environment or .env")
        settings = None
    else:
        yield Finding(piece="settings", state=State.FINE, found=where_settings_come_from())
    for check in checks:
        if settings is not None:
            yield diagnose(check, settings)


def diagnose(check: Check, settings: Settings) -> Finding:
    worst = State.BROKEN if check.required else State.NOTE
    try:
        return Finding(piece=check.piece, state=State.FINE, found=check.look(settings))
    except CheckFailed as trouble:
        state = trouble.state if check.required else State.NOTE
        return Finding(piece=check.piece, state=state, found=trouble.found, mend=trouble.mend)
    except LLMTwinError as error:
        return Finding(piece=check.piece, state=worst, found=str(error), mend="see what it says")
    except Exception as error:  # a doctor that dies of the illness finds nothing
        found = f"{type(error).__name__}: {error}"
        return Finding(piece=check.piece, state=worst, found=found, mend="not foreseen: please report it")


def where_settings_come_from() -> str:
    given = sorted(name for name in os.environ if name.startswith("TWIN_"))
    file = ".env and " if Path(".env").exists() else ""
    return f"{file}{len(given)} TWIN_* variables{': ' + ', '.join(given) if given else ''}"


def python(_: Settings) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 13):
        raise CheckFailed(version, "use Python 3.11 or 3.12: make setup PYTHON=python3.12")
    return version


def configs(_: Settings) -> str:
    from llm_engineering.operate.configs import FOLDER, load_config
    from llm_engineering.operate.pipelines import PIPELINES

    wrong, fine = [], []
    for pipeline in PIPELINES:
        if not (path := FOLDER / f"{pipeline.name}.yaml").exists():
            wrong.append(f"{path} is not there")
            continue
        try:
            load_config(pipeline.name, pipeline.config)
            fine.append(path.name)
        except LLMTwinError as error:
            wrong.append(str(error))
    if wrong:
        raise CheckFailed("\n".join(wrong), "correct them, or name another with --config", state=State.NOTE)
    return ", ".join(fine)


def warehouse(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_warehouse

    url = settings.warehouse_url
    if not store_exists(url):
        raise CheckFailed(f"{redacted_url(url)}: nothing stored yet", "poe run-etl makes it", state=State.NOTE)
    stored, _ = build_warehouse(url)  # looks at the version, the indexes and, on MongoDB, the replica set
    try:
        return f"{redacted_url(url)}: {stored.count():,} documents"
    finally:
        stored.close()


def vectors(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_vector_store

    url = settings.vectors_url
    where = redacted_url(url)
    reader = build_vector_store(settings).reader() if store_exists(url) else None
    info = reader.info() if reader else None
    if info is None:
        raise CheckFailed(f"{where}: no index yet", "poe run-features makes it", state=State.NOTE)
    reader.close()
    return f"{where}: {info.chunks:,} passages of {info.spec.embedding.model_id}, version {info.version}"


def lock(settings: Settings) -> str:
    """Whether a run could write the index now."""
    from llm_engineering.bootstrap import local_path

    url = settings.vectors_url
    if not url.startswith("edge:"):
        return "a server needs none"
    from llm_engineering.domain.errors import StoreLocked
    from llm_engineering.infrastructure.vectors import index_versions

    root = local_path("TWIN_VECTORS", url)
    if not root.exists():
        return "free"
    try:
        with index_versions.lock(root):
            return "free"
    except StoreLocked as error:
        raise CheckFailed(str(error), "a run is going on; wait for it", state=State.NOTE) from None


def freshness(settings: Settings) -> str:
    """Whether the index holds what the warehouse holds, and was made with the embedder that is configured."""
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.domain.errors import TokenExpired

    if not (store_exists(settings.warehouse_url) and store_exists(settings.vectors_url)):
        return "nothing to compare yet"
    with open_platform(settings) as twin:
        reader = twin.vectors.reader()
        info = reader.info()
        reader.close()
        if info is None:
            return "nothing to compare yet"
        built, configured = info.spec.embedding, twin.embedder.spec
        if not configured.can_read(built):
            raise CheckFailed(
                f"the index was made with {built}, the embedder is {configured}",
                "poe run-features --rebuild, or set TWIN_EMBEDDER back",
            )
        if built.revision is None:
            raise CheckFailed(
                "the index does not say which revision of its embedder made it", "poe run-features --rebuild once"
            )
        try:
            waiting = sum(1 for _ in twin.warehouse.changes(info.token))
        except TokenExpired as error:
            raise CheckFailed(str(error), "poe run-features compares everything", state=State.NOTE) from None
    if waiting:
        raise CheckFailed(f"{waiting:,} changes wait", "poe run-features", state=State.NOTE)
    return "the index holds what the warehouse holds"


def embedder(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_embedder

    chosen = build_embedder(settings)
    [vector] = chosen.embed(["Does it work?"])
    spec = chosen.spec
    if len(vector) != spec.size:
        raise CheckFailed(
            f"{spec.model_id} gave {len(vector)} numbers, not {spec.size}", "choose another TWIN_EMBEDDER"
        )
    return f"{spec.model_id}, {spec.size} numbers, {spec.max_tokens} tokens, precision {settings.embedder_precision}"


def model(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_embedder, build_language_model

    return build_language_model(settings, build_embedder(settings)).check()


def browser(settings: Settings) -> str:
    from llm_engineering.infrastructure.fetchers.chromium import find_browser

    found = find_browser(settings.chromium)
    if found is None:
        raise CheckFailed(
            "no Chromium or Chrome with its driver: pages that need JavaScript cannot be read",
            "apt install chromium chromium-driver, or set TWIN_CHROMIUM",
        )
    program, driver = found.versions()
    if not (program and driver):
        raise CheckFailed(f"{found.binary} or {found.driver} does not start", "install it again, or set TWIN_CHROMIUM")
    return f"{program} with {driver}"


def git(_: Settings) -> str:
    import subprocess

    if not (path := shutil.which("git")):
        raise CheckFailed("not found", "install git to read repositories")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return version.strip().removeprefix("git version ")


def zenml(_: Settings) -> str:
    from tools.orchestrator import prepare

    prepare()
    from zenml import __version__
    from zenml.client import Client

    client = Client()
    return f"{__version__}, {redacted_url(client.zen_store.url)}, stack {client.active_stack_model.name}"


def disk(settings: Settings) -> str:
    place = next(folder for folder in (settings.home.absolute(), *settings.home.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        raise CheckFailed(f"{place} cannot be written", "set TWIN_HOME to a folder of yours")
    free = shutil.disk_usage(place).free
    if free < LITTLE_SPACE:
        raise CheckFailed(f"{free / 1e9:.1f} GB free at {place}", "free some space", state=State.NOTE)
    return f"{free / 1e9:.0f} GB free at {place}"


CHECKS = (
    Check("python", python),
    Check("configs", configs),
    Check("disk", disk),
    Check("warehouse", warehouse),
    Check("vectors", vectors),
    Check("lock", lock),
    Check("embedder", embedder),
    Check("up to date", freshness),
    Check("model", model),
    Check("zenml", zenml),
    Check("browser", browser, required=False),
    Check("git", git, required=False),
)

MARKS = {State.FINE: "[green]✓[/]", State.NOTE: "[yellow]![/]", State.BROKEN: "[bold red]✗[/]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one list of findings.")
def doctor(as_json: bool) -> None:
    """Check every configured piece, and say how to mend what is wrong."""
    findings = list(examine(CHECKS))
    broken = any(finding.state == State.BROKEN for finding in findings)
    if as_json:
        click.echo(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2, ensure_ascii=False))
    else:
        show(findings)
    sys.exit(1 if broken else 0)


def show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mend = f"\n[dim]→ {escape(finding.mend)}[/]" if finding.mend else ""
        table.add_row(MARKS[finding.state], finding.piece, escape(finding.found) + mend)
    console = Console(highlight=False)
    console.print(table)
    broken = sum(finding.state == State.BROKEN for finding in findings)
    console.print(f"[bold red]{broken} to mend[/]" if broken else "[green]ready[/]")


if __name__ == "__main__":
    doctor()
