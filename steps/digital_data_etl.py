from functools import partial
from typing import Annotated

from zenml import step

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.runs import CrawlReport
from llm_engineering.features.config import EtlConfig
from llm_engineering.features.crawl.run import crawl_author
from steps.reporting import reporting
from steps.run_control import publish_progress, stopping


@step(enable_cache=False)
def crawl(config: EtlConfig, revalidate: bool, retry_failed: bool) -> Annotated[CrawlReport, "crawl_report"]:
    """Read the links of the config's one author into the warehouse. Red when fewer were read than the config allows."""
    [author] = config.authors
    with (
        reporting(partial(CrawlReport, author=author.name)) as finished,
        open_platform() as twin,
        twin.fetch_context(config) as context,
    ):
        return finished(
            crawl_author(
                author,
                context=context,
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                concurrency=config.fetch.concurrency,
                min_success_rate=config.min_success_rate,
                revalidate=revalidate,
                retry_failed=retry_failed,
                stop=stopping.is_set,
                on_progress=publish_progress,
            )
        )
