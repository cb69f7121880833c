from typing import Annotated

from zenml import step

from llm_engineering.bootstrap import open_platform, open_sandbox
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from steps.reporting import reporting
from steps.run_control import publish_progress, stopping


@step(enable_cache=False)
def build(config: FeatureConfig, rebuild: bool, allow_empty: bool) -> Annotated[FeatureReport, "feature_report"]:
    """Bring the vector store up to what the warehouse holds."""
    with (
        reporting(FeatureReport) as finished,
        open_platform() as twin,
        open_sandbox(config.budget) as sandbox,
    ):
        return finished(
            build_features(
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                embedder=twin.embedder,
                vectors=twin.vectors,
                sandbox=sandbox,
                config=config,
                rebuild=rebuild,
                allow_empty=allow_empty,
                stop=stopping.is_set,
                on_progress=publish_progress,
            )
        )
