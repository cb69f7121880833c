"""The report of a run, as a page."""

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.runs import CrawlReport, Failure, FeatureReport, RunRecord
from llm_engineering.domain.text import duration_text, size_text
from llm_engineering.operate.reports.page import PLOT_WIDTH, bar, render

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def crawl(**fields) -> CrawlReport:
    return CrawlReport.model_validate({"author": "Ann", "started_at": NOW, **fields})


def lost(link: str, **fields) -> Failure:
    return Failure.model_validate(
        {"link": link, "reason": Reason.DNS, "detail": "no such host", "retry": True, **fields}
    )


def test_whatever_came_from_outside_is_only_text():
    report = crawl(
        author=EVIL,
        links=1,
        failed=1,
        red=EVIL,
        by_source={EVIL: 1},
        skipped={EVIL: 2},
        failures=(lost(EVIL, detail=EVIL),),
    )
    features = FeatureReport(started_at=NOW, documents_empty={EVIL: EVIL}, empty=1, index_version=EVIL, red=EVIL)
    page = render(EVIL, RunRecord((report, features), {EVIL: EVIL}))

    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_only_web_links_can_be_clicked():
    report = crawl(links=2, failed=2, failures=(lost("javascript:alert(1)"), lost("https://a.example/x")))
    tags = Tags(render("run", RunRecord((report,)))).found
    assert [attributes["href"] for tag, attributes in tags if tag == "a"] == ["https://a.example/x"]


def test_the_page_needs_nothing_from_elsewhere():
    page = render("run", RunRecord((crawl(links=1, read=1), FeatureReport(started_at=NOW))))
    tags = Tags(page).found
    assert not [tag for tag, attributes in tags if "src" in attributes or tag in ("link", "script", "img")]
    assert "@import" not in page
    assert "url(" not in page


def test_red_says_what_failed_and_green_says_nothing_did():
    red = render("run", RunRecord((crawl(red="0 of 3"),), {"report": "out of paper"}))
    green = render("run", RunRecord((crawl(links=1, read=1),)))
    assert "0 of 3" in red
    assert "out of paper" in red
    assert "Green." not in red
    assert "Green." in green
    assert "Nothing failed." in green


def test_failures_beyond_the_reports_limit_are_counted():
    report = crawl(links=250, failed=250, failures=tuple(lost(f"https://a.example/{n}") for n in range(200)))
    page = render("run", RunRecord((report,)))
    assert "and 50 more" in page
    assert "dns 200" in page


def test_the_bars_are_to_scale():
    parts = bar(crawl(links=10, read=5, failed=5).outcomes(), 20)
    assert [(part.name, part.width) for part in parts] == [("read", PLOT_WIDTH / 4), ("failed", PLOT_WIDTH / 4)]
    assert parts[1].x == parts[0].width
    assert bar(crawl().outcomes(), 0) == []


def test_where_the_time_went_is_drawn_for_the_features():
    report = FeatureReport(started_at=NOW, seconds=10, seconds_embedding=8.0, seconds_loading=1.0, documents_indexed=3)
    page = render("run", RunRecord((report,)))
    assert "embedding 8.0 s" in page
    assert "of 10.0 s" in page


@pytest.mark.parametrize(("bytes_", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")])
def test_sizes_are_readable(bytes_, said):
    assert size_text(bytes_) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (3661, "1:01:01")])
def test_durations_are_readable(seconds, said):
    assert duration_text(seconds) == said
