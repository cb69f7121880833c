"""A step's report stays in ZenML, as its artifact and its metadata, whether the step ends green or red."""

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.runs import Report, RunRecord

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse, StepRunResponse

R = TypeVar("R", bound=Report)


class RedReport(LLMTwinError):
    """The report itself says that the step is red. What was done is kept."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.red)
        self.report = report


@contextmanager
def reporting(blank: Callable[..., Report] | None = None) -> Generator[Callable[[R], R]]:
    """Gives the function to hand the finished report through; it raises RedReport when the report is red.

    `blank` makes the report of a step that fails without one, from `started_at` and `seconds`; None: then the step
    leaves none. The error always goes on its way.
    """
    from zenml import save_artifact

    started, clock = datetime.now(UTC), time.monotonic()
    try:
        yield _finish
    except Exception as error:
        red = red_reason(type(error).__name__, str(error), on_purpose=isinstance(error, LLMTwinError))
        report = getattr(error, "report", None)
        if report is None and blank:
            report = blank(started_at=started, seconds=time.monotonic() - clock)
        if report is not None:
            report = report.model_copy(update={"red": report.red or red})
            _log_metadata(report)
            save_artifact(report, name=artifact_name(type(report)))
        raise


def artifact_name(kind: type[Report]) -> str:
    """CrawlReport -> crawl_report"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _finish(report: R) -> R:
    if report.red:
        raise RedReport(report)
    _log_metadata(report)
    return report


def _log_metadata(report: Report) -> None:
    """The counts and seconds, to be read and compared in the dashboard."""
    from zenml import log_metadata

    values = report.model_dump(mode="json", exclude={"started_at"})
    log_metadata(
        {name: value for name, value in values.items() if isinstance(value, int | float | str) and value != ""}
    )


def read_record(run: "PipelineRunResponse") -> RunRecord:
    """Of a ZenML run: whatever its steps left that is a Report."""
    steps = sorted(run.steps.items(), key=lambda item: (item[1].start_time is None, item[1].start_time))
    reports = [report for _, step in steps for report in _reports_of(step)]
    broken = {name: _broken_reason(step) for name, step in steps if step.exception_info and not step.outputs}
    return RunRecord(tuple(reports), broken)


def _reports_of(step: "StepRunResponse") -> list[Report]:
    found = []
    for artifacts in step.outputs.values():
        kind = artifacts[0].data_type
        kept = getattr(import_module(kind.module), kind.attribute or "", None)
        if isinstance(kept, type) and issubclass(kept, Report):
            found.append(artifacts[0].load())
    return found


def _broken_reason(step: "StepRunResponse") -> str:
    error = step.exception_info
    if error is None:
        return ""
    module, _, name = (error.source or "").rpartition(".")
    return red_reason(name, error.message or "", on_purpose=module.startswith("llm_engineering."))


def red_reason(error_type: str, message: str, *, on_purpose: bool) -> str:
    """An error of ours says it all; of any other, its type says more than its message."""
    return message if on_purpose else f"{error_type}: {message} (not foreseen; --debug shows where)"
