"""ZenML, made quiet and pointed at this project. Call `prepare` before anything imports zenml."""

import fcntl
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from steps.report_page import red as red_parts
from steps.run_record import RunRecord, read_record

ROOT = Path(__file__).resolve().parent.parent


def prepare(*, debug: bool = False) -> None:
    os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "INFO" if debug else "ERROR")
    os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
    # a config belongs into the step's parameters, where the dashboard shows it, and not into one file per step
    os.environ.setdefault("ZENML_PARAMETER_SIZE_THRESHOLD", "-1")
    # authors at a time; each has `fetch.concurrency` threads of its own, and may open a browser
    os.environ.setdefault("ZENML_DYNAMIC_PIPELINE_WORKER_COUNT", "4")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from zenml.config.global_config import GlobalConfiguration
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(ROOT))
    if not debug:
        for name in ("zenml", "alembic", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with _one_at_a_time(Path(GlobalConfiguration().config_directory)):
        _ = GlobalConfiguration().zen_store


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """ZenML makes its database when first asked, and two processes that do so at once break each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".llm-twin.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_name(pipeline: str) -> str:
    return f"{pipeline}-{datetime.now(UTC):%Y_%m_%d-%H_%M_%S}-{uuid4().hex[:4]}"


def find_run(name: str) -> Any | None:
    """The ZenML run of that name, or None when it was never registered."""
    from zenml.client import Client

    found = Client().list_pipeline_runs(name=name, size=1).items
    return Client().get_pipeline_run(found[0].id) if found else None


class Finished(NamedTuple):
    """`red`: which parts failed and why; empty when the run is green."""

    name: str
    record: RunRecord
    red: dict[str, str]


def start(pipeline: str, config: Any, switches: dict[str, bool], *, debug: bool = False) -> Finished:
    """Run one pipeline to its end, however it ends. Raises only what stopped it from running at all."""
    prepare(debug=debug)
    from pipelines.outcome import RunFailed

    flow = getattr(import_module(f"pipelines.{pipeline}"), pipeline)
    name, red = run_name(pipeline), {}
    try:
        flow.with_options(run_name=name)(config=config, **switches)
    except RunFailed as error:
        if debug:
            traceback.print_exc()
        red = error.red
    record = read_record(find_run(name))
    return Finished(name, record, red_parts(record) or red)
