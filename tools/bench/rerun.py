"""What a second run costs when nothing has changed: etl and features, over pages served with an ETag."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from llm_engineering.bootstrap import build_embedder, open_platform
from llm_engineering.domain.ports import Embedder
from llm_engineering.domain.runs import CrawlReport, FeatureReport
from llm_engineering.features.config import FeatureConfig, FetchConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.settings import Settings
from tools.bench.result import Bar, Benchmark
from tools.bench.sites import author_of, loopback_context, serving

PAGES = 500


class Run(NamedTuple):
    crawl: CrawlReport
    features: FeatureReport
    seconds: float

    @property
    def written(self) -> int:
        return self.crawl.documents_inserted + self.crawl.documents_updated + self.crawl.documents_deleted

    def in_words(self) -> str:
        parts = f"etl {self.crawl.seconds:.2f} s, features {self.features.seconds:.2f} s"
        return f"{self.seconds:.2f} s ({parts}), {self.features.chunks_total} chunks"


def measure(*, pages: int = PAGES, embedder: Embedder | None = None) -> Benchmark:
    """The same two calls twice, each with its stores opened afresh; the embedder is loaded before the first."""
    embedder = embedder or build_embedder(Settings(_env_file=None))
    embedder.embed(["loaded before the clock starts"])
    with serving() as port, tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, home=Path(folder), warehouse="", vectors="")
        first = run(settings, port, pages, embedder)
        second = run(settings, port, pages, embedder)
    if first.crawl.documents_inserted != pages or second.crawl.unchanged != pages:
        raise RuntimeError(f"the runs did not read what is served: {first.crawl!r} {second.crawl!r}")
    return Benchmark(
        name="rerun",
        bars=(
            Bar(what="bodies downloaded", value=second.crawl.bodies_downloaded, unit="bodies", at_most=0),
            Bar(what="documents written", value=second.written, unit="documents", at_most=0),
            Bar(what="chunks embedded", value=second.features.chunks_embedded, unit="chunks", at_most=0),
            Bar(what="wall against the first run", value=second.seconds / first.seconds, unit="x", at_most=0.10),
        ),
        figures={
            "first run": first.in_words(),
            "second run": second.in_words(),
            "documents": str(pages),
            "embedder": embedder.spec.model_id,
        },
    )


def run(settings: Settings, port: int, pages: int, embedder: Embedder) -> Run:
    began = time.perf_counter()
    with open_platform(settings) as twin, loopback_context() as context:
        crawl = crawl_author(
            author_of(port, pages),
            context=context,
            warehouse=twin.warehouse,
            ledger=twin.ledger,
            concurrency=FetchConfig().concurrency,
            min_success_rate=1.0,
        )
        features = build_features(
            warehouse=twin.warehouse,
            ledger=twin.ledger,
            embedder=embedder,
            vectors=twin.vectors,
            sandbox=context.sandbox,
            config=FeatureConfig(),
        )
    return Run(crawl, features, time.perf_counter() - began)
