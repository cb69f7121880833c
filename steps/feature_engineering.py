from typing import Annotated

from zenml import step

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from steps.run_record import FEATURE_REPORT, on_record
from steps.watching import stopping, tell


@step(enable_cache=False)
def build(config: FeatureConfig, rebuild: bool) -> Annotated[FeatureReport, FEATURE_REPORT]:
    """Bring the vector store up to what the warehouse holds."""
    with on_record(FEATURE_REPORT, FeatureReport) as finished, open_platform() as twin:
        return finished(
            build_features(
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                embedder=twin.embedder,
                vectors=twin.vectors,
                config=config,
                rebuild=rebuild,
                stop=stopping.is_set,
                on_progress=tell,
            )
        )
