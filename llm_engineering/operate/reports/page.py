"""One run as one self-contained HTML page: what came in, what failed and why, and where the time went."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from llm_engineering.domain.runs import Report, RunRecord
from llm_engineering.domain.text import duration_text
from llm_engineering.operate.reports.template import render_template

PLOT_WIDTH = 640  # of the bars, in SVG units
COLOURS = ("#2f9e6e", "#8fb8de", "#5b7db1", "#e0a83e", "#b0a7c8")  # of the parts of a bar, in order
FAILED = "#d9534f"


class Part(NamedTuple):
    """A piece of a bar: where it starts and how wide it is, in SVG units."""

    name: str
    amount: float
    colour: str
    x: float
    width: float


class Section(NamedTuple):
    """The reports of one kind. `bars` has one bar per report; `details` are tables: title -> (part, row, value)."""

    title: str
    item: str
    reports: list[Report]
    bars: list[list[Part]]
    colours: Mapping[str, str]
    reasons: Mapping[str, int]
    details: Mapping[str, list[tuple[str, str, int | str]]]


def render(run_name: str, record: RunRecord) -> str:
    """HTML with its plots inside and nothing from elsewhere. Everything that came from outside is escaped."""
    return render_template(
        "page.html",
        filters={"number": number_text, "duration": duration_text, "web": is_web_link, "stages": stages},
        run_name=run_name,
        red=record.red,
        sections=sections(record.reports),
        width=PLOT_WIDTH,
    )


def sections(reports: Iterable[Report]) -> list[Section]:
    """One per kind of report, in the order they first appear."""
    kinds: dict[type[Report], list[Report]] = {}
    for report in reports:
        kinds.setdefault(type(report), []).append(report)
    return [_section(kind, same_kind) for kind, same_kind in kinds.items()]


def _section(kind: type[Report], reports: list[Report]) -> Section:
    colours = colours_of(reports[0].outcomes())
    longest = max(sum(report.outcomes().values()) for report in reports)
    details: dict[str, list[tuple[str, str, int | str]]] = {}
    for report in reports:
        for title, rows in report.details().items():
            details.setdefault(title, []).extend((report.part, row, value) for row, value in rows.items())
    return Section(
        title=kind.title,
        item=kind.item,
        reports=reports,
        bars=[bar(report.outcomes(), longest) for report in reports if longest],
        colours=colours,
        reasons=dict(Counter(str(one.reason) for report in reports for one in report.failures).most_common()),
        details={title: rows for title, rows in details.items() if rows},
    )


def stages(report: Report) -> list[Part]:
    """Where the time of a step went."""
    return bar(report.stages(), max(report.seconds, sum(report.stages().values())))


def bar(amounts: Mapping[str, float], whole: float) -> list[Part]:
    """The parts of one bar that is PLOT_WIDTH wide where they make up the `whole`."""
    parts, x, colours = [], 0.0, colours_of(amounts)
    for name, amount in amounts.items():
        if amount:
            width = PLOT_WIDTH * amount / whole
            parts.append(Part(name, amount, colours[name], round(x, 2), round(width, 2)))
            x += width
    return parts


def colours_of(names: Iterable[str]) -> dict[str, str]:
    return {name: FAILED if name == "failed" else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def number_text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def is_web_link(link: str) -> bool:
    """Only web links are clickable: a crawled `javascript:` link must not run in the reader's browser."""
    return link.startswith(("http://", "https://"))
