"""One run as one self-contained HTML page: what came in, what failed and why, and where the time went."""

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from llm_engineering.domain.runs import CrawlReport, FeatureReport
from steps.run_record import RunRecord

TEMPLATE = Path(__file__).with_name("report_page.html")
PLOT_WIDTH = 640  # of the bars, in SVG units

# What a link may have come to, in the order of the bars: field of CrawlReport -> colour
OUTCOMES = {
    "read": "#2f9e6e",
    "unchanged": "#8fb8de",
    "resumed": "#5b7db1",
    "gone": "#b0a7c8",
    "failed": "#d9534f",
}
STAGES = {"cleaning": "#8fb8de", "splitting": "#5b7db1", "embedding": "#2f9e6e", "loading": "#e0a83e"}


class Part(NamedTuple):
    """A piece of a bar: where it starts and how wide it is, in SVG units."""

    what: str
    amount: float
    colour: str
    x: float
    width: float


def render(run_name: str, record: RunRecord) -> str:
    """HTML with its plots inside and nothing from elsewhere. Everything that came from outside is escaped."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"count": lambda number: f"{number:,}", "size": size, "duration": duration, "web": web}
    most = max((report.links for report in record.crawls), default=0)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        run_name=run_name,
        crawls=[(report, bar(report, OUTCOMES, most)) for report in record.crawls],
        features=record.features,
        stages=stages(record.features) if record.features else [],
        broken=record.broken,
        red=red(record),
        outcomes=OUTCOMES,
        reasons=reasons(record.crawls),
        width=PLOT_WIDTH,
    )


def red(record: RunRecord) -> dict[str, str]:
    """Which parts of the run failed, and why."""
    found = {
        report.author: report.red.removeprefix(f"{report.author}: ") for report in record.crawls if report.red
    } | record.broken
    if record.features and record.features.red:
        found["features"] = record.features.red
    return found


def bar(report: CrawlReport, outcomes: dict[str, str], most: int) -> list[Part]:
    return pieces({what: (getattr(report, what), colour) for what, colour in outcomes.items()}, most)


def stages(report: FeatureReport) -> list[Part]:
    spent = {what: (getattr(report, f"seconds_{what}"), colour) for what, colour in STAGES.items()}
    return pieces(spent, max(report.seconds, sum(amount for amount, _ in spent.values())))


def pieces(amounts: dict[str, tuple[float, str]], whole: float) -> list[Part]:
    parts, x = [], 0.0
    for what, (amount, colour) in amounts.items():
        if amount:
            width = PLOT_WIDTH * amount / whole
            parts.append(Part(what, amount, colour, round(x, 2), round(width, 2)))
            x += width
    return parts


def reasons(crawls: list[CrawlReport]) -> dict[str, int]:
    """Reason -> links, most frequent first. Counts what the reports list."""
    found: dict[str, int] = {}
    for report in crawls:
        for failure in report.failures:
            found[str(failure.reason)] = found.get(str(failure.reason), 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def web(link: str) -> bool:
    """Only web links are clickable: a crawled `javascript:` link must not run in the reader's browser."""
    return link.startswith(("http://", "https://"))
