"""What the doctor does with its checks: each by itself, and a table of what they found."""

import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.noun import Noun
from llm_engineering.settings import Settings, load_settings
from tools.terminal import plain_lines


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
    """`run` returns what it found, or raises. A piece that is not `required` can only make a note."""

    piece: str
    run: Callable[[Settings], str]
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
        return Finding(piece=check.piece, state=State.FINE, found=check.run(settings))
    except CheckFailed as failed:
        state = failed.state if check.required else State.NOTE
        return Finding(piece=check.piece, state=state, found=failed.found, mend=failed.mend)
    except LLMTwinError as error:
        return Finding(piece=check.piece, state=worst, found=str(error), mend="see what it says")
    except Exception as error:  # a doctor that dies of the illness finds nothing
        found = f"{type(error).__name__}: {error}"
        return Finding(piece=check.piece, state=worst, found=found, mend="not foreseen: please report it")


def where_settings_come_from() -> str:
    given = sorted(name for name in os.environ if name.startswith("TWIN_"))
    file = ".env and " if Path(".env").exists() else ""
    return f"{file}{len(given)} TWIN_* variables{': ' + ', '.join(given) if given else ''}"


MARKS = {State.FINE: "[green]✓[/]", State.NOTE: "[yellow]![/]", State.BROKEN: "[bold red]✗[/]"}


def print_findings(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mend = f"\n[dim]→ {plain_lines(finding.mend)}[/]" if finding.mend else ""
        table.add_row(MARKS[finding.state], finding.piece, plain_lines(finding.found) + mend)
    console = Console(highlight=False)
    console.print(table)
    broken = sum(finding.state == State.BROKEN for finding in findings)
    console.print(f"[bold red]{broken} to mend[/]" if broken else "[green]ready[/]")
