from typing import Annotated

from zenml import get_step_context, step
from zenml.client import Client
from zenml.types import HTMLString

from llm_engineering.operate.pipelines import pipeline_named
from steps.reporting import read_record


@step(enable_cache=False)
def report() -> Annotated[HTMLString, "report_page"]:
    """What came in, what failed and why, of the run this step belongs to."""
    context = get_step_context()
    run = Client().get_pipeline_run(context.pipeline_run.id)
    return HTMLString(pipeline_named(context.pipeline.name).page(run.name, read_record(run)))
