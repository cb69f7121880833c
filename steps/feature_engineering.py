from typing import Annotated

from llm_engineering.features.ingest import build_features
from zenml import step

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.reports import FeatureReport
from llm_engineering.features.config import FeatureConfig
from steps.run_record import keep
from steps.watching import tell_or_stop


@step(enable_cache=False)
def build(config: FeatureConfig, rebuild: bool) -> Annotated[FeatureReport, "feature_report"]:
    """Bring the vector store up to what the warehouse holds."""
    with open_platform() as twin:
        report = build_features(
            warehouse=twin.warehouse,
            embedder=twin.embedder,
            vectors=twin.vectors,
            config=config,
            rebuild=rebuild,
            on_progress=tell_or_stop,
        )
        keep(report)
        return report
