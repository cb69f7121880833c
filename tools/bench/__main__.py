"""`poe bench [NAME…] [--json PATH|-]`: measure what the platform promises, each in a process of its own.

Exit code 0: every bar is met (a skipped benchmark says why). 1: a bar is missed, or a benchmark failed.
"""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.bench.report import Measured, Report, table, this_machine
from tools.bench.result import Benchmark

if TYPE_CHECKING:
    from rich.console import Console

BENCHMARKS = (
    "crawl",
    "extraction",
    "splitting",
    "features",
    "rerun",
    "memory",
    "serving",
    "hostile",
    "imports",
    "hostile_items",
    "kills",
    "quality",
    "retrieval",
)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--json", "target", metavar="PATH|-", help="Also write the figures as JSON; - for the standard output.")
@click.option("--into", type=click.Path(path_type=Path), hidden=True, help="Measure here, and write the answer there.")
def bench(names: tuple[str, ...], target: str | None, into: Path | None) -> None:
    """Measure NAMEs, or everything."""
    from rich.console import Console

    if into:
        [name] = names
        into.write_text(import_module(f"tools.bench.{name}").measure().model_dump_json())
        return
    console = Console(stderr=target == "-")
    report = Report(
        machine=this_machine(), at=datetime.now(UTC), results=tuple(measure_all(names or BENCHMARKS, console))
    )
    sys.exit(publish(report, target, console))


def publish(report: Report, target: str | None, console: "Console") -> int:
    """Print it and write it; the exit code."""
    console.print(table(report))
    if target == "-":
        click.echo(report.as_json())
    elif target:
        Path(target).write_text(report.as_json() + "\n")
    return 0 if report.met else 1


def measure_all(names: tuple[str, ...], console: "Console") -> list[Measured]:
    results = []
    for name in dict.fromkeys(names):
        with console.status(f"measuring {name}"):
            results.append(measured(name))
    return results


def measured(name: str) -> Measured:
    """In a fresh process, so that nothing one benchmark loaded helps or burdens the next."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "tools.bench", name, "--into", str(answer)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        seconds = time.perf_counter() - started
        if done.returncode or not answer.exists():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return Measured(name=name, seconds=seconds, error="\n".join(lines[-3:]))
        benchmark = Benchmark.model_validate_json(answer.read_text())
        return Measured(name=name, seconds=seconds, benchmark=benchmark)


if __name__ == "__main__":
    bench()
