from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.features.config import FeatureConfig
from pipelines.outcome import raise_if_red, settle
from steps.feature_engineering import build
from steps.report import report


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def feature_engineering(config: FeatureConfig, rebuild: bool = False, allow_empty: bool = False) -> None:
    """Clean, cut, embed and load what changed in the warehouse."""
    built = settle(
        {"features": build.submit(config=config, rebuild=rebuild, allow_empty=allow_empty, id="build_features")}
    )
    report(after=built.green)
    raise_if_red(built.red)
