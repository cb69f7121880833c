"""`poe traces [--limit N] [--id ID] [--json]`: what was asked lately and what came of it, or one trace in full.

Exit code 0: shown. 1: no trace has this id. 2: a setting or the command line is wrong.
"""

import json
import sys
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_engineering.domain.text import escaped, redacted_url
from llm_engineering.infrastructure.tracing.jsonl import find_traces, read_traces
from llm_engineering.infrastructure.tracing.record import TraceRecord
from llm_engineering.settings import Settings, load_settings
from tools.command import errors_as_exit_codes
from tools.terminal import plain, say, say_json

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--id", "id_", help="One of them in full; its first characters are enough.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one a line.")
def traces(limit: int, id_: str | None, as_json: bool) -> None:
    """What was asked lately and what came of it, newest first."""
    from rich.console import Console

    with errors_as_exit_codes():
        settings = load_settings()
    folder = settings.home / "traces"
    found = find_traces(folder, id_) if id_ else list(islice(read_traces(folder), limit))
    if id_ and not found:
        say(f"no trace has an id that begins with {id_!r}. {elsewhere(settings, folder)}", err=True)
        sys.exit(1)
    if as_json:
        for trace in found:
            say_json(trace)
        return
    console = Console(highlight=False)
    if not found:
        console.print(f"No trace yet. {plain(elsewhere(settings, folder))}")
    elif id_ and len(found) == 1:
        show_one(found[0], console)
    else:
        show_table(found, console)


def elsewhere(settings: Settings, folder: Path) -> str:
    match settings.tracing:
        case "opik":
            where = settings.opik_url or "the Opik cloud"
            return f"They go to Opik ({redacted_url(where)}); {folder} holds only what it did not take."
        case "off":
            return "None are kept: TWIN_TRACING=off."
    return f"They are kept in {folder}; ask something with `poe serve` or `poe ask` first."


def show_table(found: list[TraceRecord], console: "Console") -> None:
    from rich.table import Column, Table

    whole = Column("id", no_wrap=True, min_width=36)  # it is there to be copied
    table = Table("when", whole, "question", "outcome", "ms", "stages (ms)", box=None, padding=(0, 2, 0, 0))
    for trace in found:
        stages = ", ".join(f"{stage['name']} {stage['ms']:.0f}" for stage in trace.get("stages", ()))
        table.add_row(
            _moment(trace),
            plain(trace["id"]),
            plain(_short(question_of(trace), 60)),
            plain(_short(str(trace.get("output", {}).get("outcome", "")), 20)),
            f"{trace.get('ms', 0):.0f}",
            plain(stages),
        )
    console.print(table)


def show_one(trace: TraceRecord, console: "Console") -> None:
    """Question, rewrites, hits with scores, prompt, tokens, time of each stage: everything that was recorded."""
    from rich.text import Text

    console.print(f"[bold]{plain(_short(question_of(trace), 200)) or '(no question)'}[/]")
    console.print(f"[dim]{plain(trace['id'])}  {_moment(trace)} UTC  {trace.get('ms', 0):.1f} ms[/]")
    for name in ("input", "output"):
        if trace.get(name):
            console.print(f"\n[bold]{name}[/]")
            console.print(Text(_readable(trace[name])))
    for stage in trace.get("stages", ()):
        console.print(f"\n[bold]{plain(stage['name'])}[/]  [dim]{stage['start_ms']:.1f} + {stage['ms']:.1f} ms[/]")
        if "error" in stage:
            console.print(Text(f"  {escaped(stage['error'])}", style="red"))
        if stage.get("facts"):
            console.print(Text(_readable(stage["facts"])))


def question_of(trace: TraceRecord) -> str:
    """Where the tracer's caller put it: at the end, or at the start."""
    return str(trace.get("output", {}).get("question") or trace.get("input", {}).get("question") or "")


def answer_of(trace: TraceRecord) -> str:
    return str(trace.get("output", {}).get("answer") or "")


def _readable(value: Any, indent: int = 2) -> str:
    """Like YAML, with texts as they are: JSON's \\n make a prompt unreadable."""
    space = " " * indent
    match value:
        case dict():
            return "\n".join(_pair(f"{escaped(name)}:", one, indent) for name, one in value.items())
        case list():
            return "\n".join(_pair("-", one, indent) for one in value)
        case str():
            return "\n".join(space + escaped(line) for line in value.splitlines())
    return space + json.dumps(value)


def _pair(head: str, value: Any, indent: int) -> str:
    space = " " * indent
    if isinstance(value, dict | list) and value and any(isinstance(one, dict | list | str) for one in _members(value)):
        return f"{space}{head}\n{_readable(value, indent + 2)}"
    if isinstance(value, str) and "\n" in value:
        return f"{space}{head}\n{_readable(value, indent + 2)}"
    return f"{space}{head} {escaped(value) if isinstance(value, str) else json.dumps(value)}"


def _members(value: dict | list) -> list:
    return list(value.values() if isinstance(value, dict) else value)


def _moment(trace: TraceRecord) -> str:
    try:
        return f"{datetime.fromisoformat(str(trace.get('at'))):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return "?"


def _short(text: str, limit: int) -> str:
    text = escaped(" ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


if __name__ == "__main__":
    traces()
