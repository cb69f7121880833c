"""What a run leaves behind in ZenML: one small report per step, even of a step that failed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.runs import CrawlReport, FeatureReport

CRAWL_REPORT = "crawl_report"
FEATURE_REPORT = "feature_report"

Report = TypeVar("Report", CrawlReport, FeatureReport)


class RedReport(LLMTwinError):
    """The report itself says that the step is red: it was stopped. What was done is kept."""

    def __init__(self, report: CrawlReport | FeatureReport) -> None:
        super().__init__(report.red)
        self.report = report


@contextmanager
def on_record(name: str, blank: Callable[..., Report]) -> Iterator[Callable[[Report], Report]]:
    """The step's report is kept, as its artifact and as its metadata, whether it ends green or red.

    Gives the function to hand the finished report through. `blank` makes the report of a step that fails without
    one. The error always goes on its way.
    """
    from zenml import save_artifact

    started, clock = datetime.now(UTC), time.monotonic()
    try:
        yield _finished
    except Exception as error:
        red = said(type(error).__name__, str(error), on_purpose=isinstance(error, LLMTwinError))
        report = getattr(error, "report", None) or blank(started_at=started, seconds=time.monotonic() - clock)
        report = report.model_copy(update={"red": report.red or red})
        _log(report)
        save_artifact(report, name=name)
        raise


def _finished(report: Report) -> Report:
    if report.red:
        raise RedReport(report)
    _log(report)
    return report


def _log(report: CrawlReport | FeatureReport) -> None:
    """The counts and seconds as the step's metadata, to be read and compared in the dashboard."""
    from zenml import log_metadata

    values = report.model_dump(mode="json", exclude={"author", "started_at"})
    log_metadata(
        {name: value for name, value in values.items() if isinstance(value, int | float | str) and value != ""}
    )


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
    broken = {name: _why(step.exception_info) for name, step in steps if step.exception_info and not step.outputs}
    return RunRecord(crawls, features[0] if features else None, broken)


def _why(error: Any) -> str:
    module, _, name = error.source.rpartition(".")
    return said(name, error.message or "", on_purpose=module.startswith("llm_engineering."))


def said(kind: str, message: str, *, on_purpose: bool) -> str:
    """An error of ours says it all; of any other, its type says more than its message."""
    return message if on_purpose else f"{kind}: {message} (not foreseen; --debug shows where)"
