from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from pipelines.outcome import raise_if_red, settle
from steps.evaluate_retrieval import evaluate
from steps.report import report


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def evaluate_retrieval(config: RetrievalEvaluationConfig) -> None:
    """How good every retrieval setting is on this corpus, and whether the configured one got worse."""
    evaluated = settle({"retrieval": evaluate.submit(config=config, id="evaluate")})
    report(after=evaluated.green)
    raise_if_red(evaluated.red)
