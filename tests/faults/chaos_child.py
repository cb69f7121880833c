"""Crawl and build the features once, saying every step on stdout; test_chaos.py kills it at some of them."""

import sys

from llm_engineering.bootstrap import open_platform, open_sandbox
from llm_engineering.features.config import EtlConfig, FeatureConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.indexing.ingest import build_features


def main(config: EtlConfig) -> None:
    with open_platform() as twin:
        with twin.fetch_context(config) as context:
            for author in config.authors:
                crawl_author(
                    author,
                    context=context,
                    warehouse=twin.warehouse,
                    ledger=twin.ledger,
                    concurrency=config.fetch.concurrency,
                    min_success_rate=config.min_success_rate,
                    on_progress=lambda report: print("crawl", report.links, flush=True),
                )
        features = FeatureConfig(buffer_chunks=12)
        with open_sandbox(features.budget) as sandbox:
            build_features(
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                embedder=twin.embedder,
                vectors=twin.vectors,
                sandbox=sandbox,
                config=features,
                on_progress=lambda report: print("features", report.chunks_embedded, flush=True),
            )
    print("done", flush=True)


if __name__ == "__main__":
    main(EtlConfig.model_validate_json(sys.argv[1]))
