from zenml import pipeline

from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from steps.evaluate_retrieval import compare, evaluate, hold, page


@pipeline(dynamic=True, enable_cache=False)
def evaluate_retrieval(config: RetrievalEvaluationConfig) -> None:
    """How good every retrieval setting is on this corpus, and whether the configured one got worse."""
    report = evaluate(config=config)
    comparison = compare(report=report, config=config)
    page(report=report, comparison=comparison)
    hold(comparison=comparison)
