from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.features.config import EtlConfig
from pipelines.outcome import raise_if_red, settle, step_id
from steps.digital_data_etl import crawl
from steps.report import report


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def digital_data_etl(config: EtlConfig, revalidate: bool = True, retry_failed: bool = False) -> None:
    """One crawl step per author; one author's failure stops nobody else, and the run is red at the end."""
    crawled = settle(crawl_everyone(config, revalidate, retry_failed))
    report(after=crawled.green)
    raise_if_red(crawled.red)


def crawl_everyone(config: EtlConfig, revalidate: bool, retry_failed: bool) -> dict[str, object]:
    """Author's name -> the future of their crawl step."""
    return {
        author.name: crawl.submit(
            config=config.model_copy(update={"authors": (author,)}),
            revalidate=revalidate,
            retry_failed=retry_failed,
            id=step_id("crawl", author.name),
        )
        for author in config.authors
    }
