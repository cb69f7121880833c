"""A document or page that takes more than its budget is that item's own outcome, and the rest goes on."""

import os
import signal
from dataclasses import replace

import pytest
from feature_build import FeatureBuild, document
from fetch_context import fetch_context

from llm_engineering.bootstrap import build_sandbox, build_warehouse
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.config import AuthorConfig, BudgetConfig, EtlConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.sources import SOURCES, Page, Source
from llm_engineering.infrastructure.embedders import HashingEmbedder

BUDGET = BudgetConfig(seconds=1.0, seconds_per_megabyte=0.0, memory_bytes=700_000_000)
GOOD = tuple(document(name, f"Words worth keeping, said in the {name} place.") for name in ("one", "two", "three"))


def clean(body: str, media_type: str) -> Cleaned:
    match body:
        case "spin":
            spin()
        case "swell":
            bytearray(1_000_000_000)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
    return clean_body(body, media_type)


def spin() -> None:
    while True:
        pass


@pytest.fixture
def sandbox():
    made = build_sandbox(BUDGET)
    yield made
    made.close()


def test_documents_over_their_budget_are_named_and_the_others_are_indexed(tmp_path, sandbox):
    features = FeatureBuild(tmp_path, HashingEmbedder(32), sandbox)
    features.warehouse.put([*GOOD, *(document(name, name) for name in ("spin", "swell", "crash"))])
    sources = tuple(replace(source, clean=clean) for source in SOURCES)
    report = features.run(sources=sources)
    assert (report.documents_seen, report.documents_indexed, report.failed, report.red) == (6, 3, 3, "")
    assert sorted(features.texts()) == sorted(one.body for one in GOOD)
    told = {failure.link.rpartition("/")[2]: failure for failure in report.failures}
    assert {failure.reason for failure in told.values()} == {Reason.OVER_BUDGET}
    assert "more than 1 s of a processor" in told["spin"].detail
    assert "test_budget.py" in told["spin"].detail
    assert "700 MB of memory" in told["swell"].detail
    assert "SIGSEGV" in told["crash"].detail
    assert {one.reason for one in features.ledger.document_failures()} == {Reason.OVER_BUDGET}
    features.close()


def test_a_run_with_children_gives_what_a_run_without_gives(tmp_path, sandbox):
    bodies = [document(str(i), f"# Part {i}\n\n" + "Some words of it. " * 40 * i) for i in range(20)]
    found = []
    for name, own in (("here", None), ("there", sandbox)):
        features = FeatureBuild(tmp_path / name, HashingEmbedder(32), *([own] if own else []))
        features.warehouse.put(bodies)
        features.run()
        found.append(features.chunks())
        features.close()
    assert found[0] == found[1]
    assert len(found[0]) > 20


def test_a_page_over_its_budget_is_one_failed_link(tmp_path, sandbox):
    def crawl(target, context):
        if target.url.endswith("/spin"):
            context.sandbox.submit(spin).result()
        yield Page(url=target.url, body=target.url)

    warehouse, ledger = build_warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    report = crawl_author(
        AuthorConfig.model_validate(
            {"name": "Ann", "links": [f"https://a.example/{one}" for one in ("a", "spin", "z")]}
        ),
        context=replace(fetch_context(), sandbox=sandbox),
        warehouse=warehouse,
        ledger=ledger,
        concurrency=2,
        min_success_rate=0.5,
        sources=(Source(name="plain", kind=Kind.ARTICLE, crawl=crawl, owns=lambda link: True),),
    )
    [failure] = report.failures
    assert (failure.link, failure.reason) == ("https://a.example/spin", Reason.OVER_BUDGET)
    assert sorted(one.url for one in warehouse.documents()) == ["https://a.example/a", "https://a.example/z"]
    warehouse.close()


def test_a_budget_of_no_processes_is_none_and_absurd_ones_are_refused():
    assert build_sandbox(BudgetConfig(processes=0)).submit(os.getpid).result() == os.getpid()
    author = {"name": "Ann", "links": ["https://a.example"]}
    for wrong in ({"seconds": 0}, {"seconds": -1}, {"processes": -1}, {"memory_bytes": 1000}, {"seconds": "long"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EtlConfig.model_validate({"authors": [author], "budget": wrong})
