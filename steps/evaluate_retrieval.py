from functools import partial
from typing import Annotated

from zenml import step

from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.operate.retrieval_evaluation import evaluate_published
from steps.reporting import reporting
from steps.run_control import publish


@step(enable_cache=False)
def evaluate(config: RetrievalEvaluationConfig) -> Annotated[RetrievalReport, "retrieval_report"]:
    """Every setting on questions made from what is published. Red when it got worse since the accepted run."""
    with reporting() as finished, open_platform() as twin:
        return finished(evaluate_published(twin, config, partial(publish, "retrieval")))
