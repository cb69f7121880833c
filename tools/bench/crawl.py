"""How fast pages arrive in the warehouse: many hosts at once against the same fetcher one page at a time."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from llm_engineering.bootstrap import build_warehouse
from llm_engineering.features.config import FetchConfig
from llm_engineering.features.crawl.run import crawl_author
from tools.bench.result import Bar, Benchmark
from tools.bench.sites import HOSTS, author_of, loopback_context, serving

LATENCY = 0.2  # seconds before each answer
PAGES = 500
PAGES_IN_A_ROW = 40


class Crawl(NamedTuple):
    pages: int
    seconds: float

    @property
    def rate(self) -> float:
        """Pages in the warehouse per second."""
        return self.pages / self.seconds


def measure(*, pages: int = PAGES, in_a_row: int = PAGES_IN_A_ROW) -> Benchmark:
    """Both crawls against the same server, the real crawl into a real SQLite file, with the defaults of a config."""
    with serving(latency=LATENCY) as port, tempfile.TemporaryDirectory() as folder:
        crawl(port, Path(folder) / "warm-up.db", HOSTS[:1], pages=4, concurrency=4)
        few = HOSTS[: max(1, in_a_row * len(HOSTS) // pages)]  # as many pages per robots.txt as below
        alone = crawl(port, Path(folder) / "alone.db", few, pages=in_a_row, concurrency=1)
        concurrency = FetchConfig().concurrency
        together = crawl(port, Path(folder) / "together.db", HOSTS, pages=pages, concurrency=concurrency)
    return Benchmark(
        name="crawl",
        bars=(
            Bar(what="pages to the warehouse", value=together.rate, unit="pages/s", at_least=50),
            Bar(what="against one page at a time", value=together.rate / alone.rate, unit="x", at_least=10),
        ),
        figures={
            "together": f"{together.pages} pages of {len(HOSTS)} hosts in {together.seconds:.2f} s",
            "one at a time": f"{alone.pages} pages in {alone.seconds:.2f} s, {alone.rate:.2f} pages/s",
            "per host": f"{FetchConfig().per_host} at a time, {LATENCY * 1000:.0f} ms per answer",
        },
    )


def crawl(port: int, warehouse_file: Path, hosts: tuple[str, ...], *, pages: int, concurrency: int) -> Crawl:
    """Raises RuntimeError when a page is missing afterwards: a fast crawl that loses pages is no figure."""
    warehouse, ledger = build_warehouse(f"sqlite:///{warehouse_file}")
    try:
        with loopback_context() as context:
            began = time.perf_counter()
            crawl_author(
                author_of(port, pages, hosts),
                context=context,
                warehouse=warehouse,
                ledger=ledger,
                concurrency=concurrency,
                min_success_rate=1.0,
            )
            seconds = time.perf_counter() - began
        if (stored := warehouse.count()) != pages:
            raise RuntimeError(f"{stored} of {pages} pages are in the warehouse")
    finally:
        warehouse.close()
    return Crawl(pages, seconds)


if __name__ == "__main__":
    print(measure().model_dump_json(indent=2))
