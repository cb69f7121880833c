"""What `poe bench` says: every figure with its bar, and the machine it was measured on."""

import os
import platform
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.noun import Noun
from tools.bench.result import Bar, Benchmark

if TYPE_CHECKING:
    from rich.table import Table


class Machine(Noun):
    """`memory` in GiB; `cores` are those this process may use."""

    cpu: str
    cores: int
    memory: float
    python: str
    platform: str


class Measured(Noun):
    """One benchmark's answer, or why there is none. `seconds` is how long measuring took."""

    name: str
    seconds: float
    benchmark: Benchmark | None = None
    error: str = ""

    @property
    def met(self) -> bool:
        return self.benchmark is not None and all(bar.met for bar in self.benchmark.bars)


class Report(Noun):
    machine: Machine
    at: datetime
    results: tuple[Measured, ...]

    @property
    def met(self) -> bool:
        return all(result.met for result in self.results)

    def as_json(self) -> str:
        """With `met` of every bar written out."""
        fields = self.model_dump(mode="json")
        for result, plain in zip(self.results, fields["results"], strict=True):
            plain["met"] = result.met
            if result.benchmark:
                for bar, row in zip(result.benchmark.bars, plain["benchmark"]["bars"], strict=True):
                    row["met"] = bar.met
        import json

        return json.dumps(fields, indent=2, ensure_ascii=False)


def this_machine() -> Machine:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cpu=_cpu(),
        cores=cores,
        memory=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
        platform=platform.platform(),
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def table(report: Report) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    machine = report.machine
    where = f"{machine.cpu}, {machine.cores} cores, {machine.memory:g} GiB, Python {machine.python}, {machine.platform}"
    out = Table(title=escape(where), title_justify="left")
    for column, justify in (("", "left"), ("what", "left"), ("value", "right"), ("bar", "right"), ("met", "left")):
        out.add_column(column, justify=justify, overflow="fold")
    for result in report.results:
        for row in _rows(result):
            out.add_row(*row)
        out.add_section()
    return out


def _rows(result: Measured) -> list[tuple[str, ...]]:
    from rich.markup import escape

    if result.benchmark is None:
        return [(result.name, escape(result.error), "", "", "[bold red]failed[/]")]
    if result.benchmark.skipped:
        return [(result.name, escape(result.benchmark.skipped), "", "", "[yellow]skipped[/]")]
    rows = [(escape(bar.what), _number(bar.value, bar.unit), _wanted(bar), _met(bar)) for bar in result.benchmark.bars]
    rows += [(f"[dim]{escape(what)}[/]", f"[dim]{escape(value)}[/]", "", "") for what, value in
             result.benchmark.figures.items()]  # fmt: skip
    return [(result.name if number == 0 else "", *row) for number, row in enumerate(rows)]


def _met(bar: Bar) -> str:
    return "[green]yes[/]" if bar.met else "[bold red]NO[/]"


def _wanted(bar: Bar) -> str:
    low = "" if bar.at_least is None else f"≥ {_number(bar.at_least, bar.unit)}"
    high = "" if bar.at_most is None else f"≤ {_number(bar.at_most, bar.unit)}"
    return " ".join(filter(None, (low, high)))


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value == int(value) or abs(value) >= 1000 else f"{value:,.3g} {unit}"
