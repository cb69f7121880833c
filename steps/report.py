from typing import Annotated

from zenml import get_step_context, step
from zenml.client import Client
from zenml.types import HTMLString

from steps.report_page import render
from steps.run_record import read_record


@step(enable_cache=False)
def report() -> Annotated[HTMLString, "report_page"]:
    """What came in, what failed and why, of the run this step belongs to."""
    run = Client().get_pipeline_run(get_step_context().pipeline_run.id)
    return HTMLString(render(run.name, read_record(run)))
