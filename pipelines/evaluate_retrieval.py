from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from pipelines.outcome import raise_if_red, settle
from steps.evaluate_retrieval import compare, evaluate, hold, page


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def evaluate_retrieval(config: RetrievalEvaluationConfig) -> None:
    """How good every retrieval setting is on this corpus, and whether the configured one got worse."""
    report = evaluate.submit(config=config, id="evaluate")
    raise_if_red(settle({"evaluation": report}).red)
    comparison = compare(report=report, config=config)
    page(report=report, comparison=comparison)
    raise_if_red(settle({"retrieval": hold.submit(comparison=comparison, id="hold")}).red)
