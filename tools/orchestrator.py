"""ZenML, made quiet and pointed at this project. Call `prepare` before anything imports zenml."""

import os
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from pydantic import BaseModel

from llm_engineering.domain.runs import RunRecord
from llm_engineering.infrastructure.zenml.connection import open_zenml
from steps.reporting import read_record
from tools.terminal import say

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

ROOT = Path(__file__).resolve().parent.parent


def prepare(*, debug: bool = False) -> None:
    # a config belongs into the step's parameters, where the dashboard shows it, and not into one file per step
    os.environ.setdefault("ZENML_PARAMETER_SIZE_THRESHOLD", "-1")
    # authors at a time; each has `fetch.concurrency` threads of its own, and may open a browser
    os.environ.setdefault("ZENML_DYNAMIC_PIPELINE_WORKER_COUNT", "4")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    open_zenml(debug=debug)


def run_name(pipeline: str) -> str:
    return f"{pipeline}-{datetime.now(UTC):%Y_%m_%d-%H_%M_%S}-{uuid4().hex[:4]}"


def find_run(name: str) -> "PipelineRunResponse | None":
    """The ZenML run of that name, or None when it was never registered."""
    from zenml.client import Client

    found = Client().list_pipeline_runs(name=name, size=1).items
    return Client().get_pipeline_run(found[0].id) if found else None


class Finished(NamedTuple):
    """`red`: which parts failed and why; empty when the run is green."""

    name: str
    record: RunRecord
    red: Mapping[str, str]


def start(pipeline: str, config: BaseModel, switches: Mapping[str, bool], *, debug: bool = False) -> Finished:
    """Run one pipeline to its end, however it ends. Raises only what stopped it from running at all."""
    prepare(debug=debug)
    from pipelines.outcome import RunFailed

    flow = getattr(import_module(f"pipelines.{pipeline}"), pipeline)
    name, red = run_name(pipeline), {}
    try:
        flow.with_options(run_name=name)(config=config, **switches)
    except RunFailed as error:
        if debug:
            say(traceback.format_exc(), err=True)
        red = error.red
    except KeyError as error:
        if "pipeline run" not in str(error) or find_run(name):
            raise
        red = {pipeline: "the record of this run was erased while it went on (poe forget), so it was ended"}
    registered = find_run(name)
    record = read_record(registered) if registered else RunRecord()
    return Finished(name, record, record.red or red)
