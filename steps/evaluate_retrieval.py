from typing import Annotated

from zenml import step
from zenml.types import HTMLString

from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.evaluation.comparison import Comparison, raise_if_worse
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.settings import load_settings
from steps.retrieval_evaluation import evaluate_on, judge
from steps.retrieval_page import render


@step(enable_cache=False)
def evaluate(config: RetrievalEvaluationConfig) -> Annotated[RetrievalReport, "retrieval_report"]:
    """Every setting on questions made from what is published."""
    with open_platform() as twin:
        return evaluate_on(twin, config)


@step(enable_cache=False)
def compare(report: RetrievalReport, config: RetrievalEvaluationConfig) -> Annotated[Comparison, "comparison"]:
    """With the run that was last accepted."""
    return judge(report, config, load_settings())


@step(enable_cache=False)
def page(report: RetrievalReport, comparison: Comparison) -> Annotated[HTMLString, "retrieval_page"]:
    """The figures with their intervals, and what they mean."""
    return HTMLString(render(report, comparison))


@step(enable_cache=False)
def hold(comparison: Comparison) -> None:
    """Red when retrieval got worse; the page is there either way."""
    raise_if_worse(comparison)
