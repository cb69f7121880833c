"""What a run leaves behind in ZenML: one small report per step, even of a step that failed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.reports import CrawlReport, FeatureReport
from steps.watching import Stopped

CRAWL_REPORT = "crawl_report"
FEATURE_REPORT = "feature_report"


def keep(report: CrawlReport | FeatureReport) -> None:
    """The report's counts and seconds as the step's metadata, to be read and compared in the dashboard."""
    from zenml import log_metadata

    figures = {
        name: value
        for name, value in report.model_dump(mode="json").items()
        if isinstance(value, int | float | str) and value != "" and name not in ("author", "started_at")
    }
    log_metadata(figures)


@contextmanager
def crawl_on_record(author: str) -> Iterator[Callable[[CrawlReport], CrawlReport]]:
    """A crawl step's report is kept whether the step ends green or red. Never swallows the error.

    Gives the function that keeps a report; it raises Stopped for one that says the crawl was stopped.
    """
    from zenml import save_artifact

    started, clock = datetime.now(UTC), time.monotonic()

    def kept(report: CrawlReport) -> CrawlReport:
        keep(report)
        return report

    def finished(report: CrawlReport) -> CrawlReport:
        if report.red:
            raise Stopped(report.red, report)
        return kept(report)

    try:
        yield finished
    except Exception as error:
        report = getattr(error, "report", None) or CrawlReport(
            author=author,
            started_at=started,
            seconds=time.monotonic() - clock,
            red=said(type(error).__name__, str(error), isinstance(error, LLMTwinError)),
        )
        save_artifact(kept(report), name=CRAWL_REPORT)
        raise


class RunRecord(NamedTuple):
    """`broken`: step -> why, of the steps that failed without leaving a report."""

    crawls: list[CrawlReport]
    features: FeatureReport | None
    broken: dict[str, str]


def read_record(run: Any) -> RunRecord:
    """Of a ZenML run: every author's report in the order the steps began, and the feature report if there is one."""
    steps = sorted(run.steps.items(), key=lambda item: (item[1].start_time is None, item[1].start_time))
    crawls = [step.outputs[CRAWL_REPORT][0].load() for _, step in steps if CRAWL_REPORT in step.outputs]
    features = [step.outputs[FEATURE_REPORT][0].load() for _, step in steps if FEATURE_REPORT in step.outputs]
    broken = {
        name: _why(step.exception_info)
        for name, step in steps
        if step.exception_info and CRAWL_REPORT not in step.outputs
    }
    return RunRecord(crawls, features[0] if features else None, broken)


def _why(error: Any) -> str:
    module, _, name = error.source.rpartition(".")
    return said(name, error.message or "", module.startswith("llm_engineering."))


def said(kind: str, message: str, on_purpose: bool) -> str:
    """An error of ours says it all; of any other, its type says more than its message."""
    return message if on_purpose else f"{kind}: {message} (not foreseen; --debug shows where)"
