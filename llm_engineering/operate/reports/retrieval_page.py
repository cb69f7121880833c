"""The evaluation of retrieval as one self-contained HTML page, its plots inside."""

from typing import NamedTuple

from llm_engineering.domain.runs import RunRecord
from llm_engineering.domain.statistics import Estimate
from llm_engineering.inference.evaluation.measures import MEASURES
from llm_engineering.inference.evaluation.report import RetrievalReport, Scores
from llm_engineering.operate.reports import page
from llm_engineering.operate.reports.template import render_template

WIDTH = 560  # of a plot from 0 to 1, in SVG units
COLOURS = {"best": "#2f9e6e", "configured": "#5b7db1", "dense": "#e0a83e", "": "#8fb8de"}


class Mark(NamedTuple):
    """A bar with its interval: lengths in SVG units."""

    name: str
    colour: str
    width: float
    low: float
    high: float
    estimate: Estimate


def render(run_name: str, record: RunRecord) -> str:
    """HTML with nothing from elsewhere. Everything that came from outside is escaped.

    Of a run that ended before anything was measured: the page every run has.
    """
    reports = record.of(RetrievalReport)
    return render_report(reports[0]) if reports else page.render(run_name, record)


def render_report(report: RetrievalReport) -> str:
    slices = sorted({scores.slice for scores in report.scores if scores.slice != "all"})
    return render_template(
        "retrieval_page.html",
        filters={"number": lambda value: f"{value:.3f}", "percent": lambda value: f"{100 * value:+.1f} %"},
        report=report,
        measures=MEASURES,
        plots={
            "All questions": marks(report, "all", filtered=False),
            "All questions, filtered by the author": marks(report, "all", filtered=True),
        }
        | {f"Only {one}": marks(report, one, filtered=False) for one in slices},
        rows=[row for row in report.scores if row.slice == "all"],
        width=WIDTH,
        best=report.settings[report.best].model_dump(mode="json"),
    )


def marks(report: RetrievalReport, slice_name: str, *, filtered: bool) -> list[Mark]:
    """MRR@10 of every setting, best first."""
    chosen = [s for s in report.scores if (s.half, s.slice, s.filtered) == ("all", slice_name, filtered)]
    return [_mark(one, report) for one in sorted(chosen, key=lambda s: -s.measures["mrr@10"].value)]


def _mark(scores: Scores, report: RetrievalReport) -> Mark:
    role = "best" if scores.setting == report.best else scores.setting
    estimate = scores.measures["mrr@10"]
    return Mark(
        name=scores.setting,
        colour=COLOURS.get(role, COLOURS[""]),
        width=round(WIDTH * estimate.value, 1),
        low=round(WIDTH * estimate.low, 1),
        high=round(WIDTH * estimate.high, 1),
        estimate=estimate,
    )
