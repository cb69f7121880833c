from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.features.config import EndToEndConfig
from pipelines.digital_data_etl import crawl_everyone
from pipelines.outcome import raise_if_red, settle
from steps.feature_engineering import build
from steps.report import report
from steps.run_control import stopping


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def end_to_end_data(
    config: EndToEndConfig,
    revalidate: bool = True,
    retry_failed: bool = False,
    rebuild: bool = False,
    allow_empty: bool = False,
) -> None:
    """Crawl, then build the features of whatever was read, even when an author failed; red if anything was."""
    crawled = built = settle(crawl_everyone(config.etl, revalidate, retry_failed))
    if not stopping.is_set():
        features = build.submit(
            config=config.features, rebuild=rebuild, allow_empty=allow_empty, id="build_features", after=crawled.green
        )
        built = settle({"features": features})
    report(after=built.green or crawled.green)
    raise_if_red(crawled.red | built.red)
