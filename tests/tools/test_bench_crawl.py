"""The crawl benchmark measures what it says; how fast this machine is, is not for a test to say."""

from tools.bench.crawl import HOSTS, measure


def test_the_crawl_benchmark_stores_every_page_and_gives_both_figures():
    benchmark = measure(pages=40, in_a_row=2)
    assert [bar.at_least for bar in benchmark.bars] == [50, 10]
    assert all(bar.value > 0 for bar in benchmark.bars)
    assert benchmark.figures["together"].startswith(f"40 pages of {len(HOSTS)} hosts")
