"""`poe bench`: what it says, and that the benchmarks measure what they say."""

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from llm_engineering.infrastructure.embedders import HashingEmbedder
from tools.bench import memory, rerun
from tools.bench.__main__ import BENCHMARKS, bench, measured, publish
from tools.bench.report import Machine, Measured, Report, this_machine
from tools.bench.result import Bar, Benchmark

MACHINE = Machine(cpu="A [fast] CPU", cores=2, memory=8.0, python="3.11.7", platform="Linux")


def report(*results: Measured) -> Report:
    return Report(machine=MACHINE, at=datetime(2026, 1, 1, tzinfo=UTC), results=results)


def result(value: float, **bar) -> Measured:
    bars = (Bar(what="pages", value=value, unit="pages/s", **bar),)
    return Measured(name="crawl", seconds=1.0, benchmark=Benchmark(name="crawl", bars=bars, figures={"note": "[x] 3"}))


def published(one: Report, target=None):
    console = Console(width=160, record=True, file=StringIO())
    code = publish(one, target, console)
    return code, console.export_text()


def test_a_met_bar_is_green_and_the_machine_is_named():
    code, text = published(report(result(51, at_least=50)))
    assert code == 0
    for said in ("A [fast] CPU, 2 cores, 8 GiB, Python 3.11.7, Linux", "51 pages/s", "≥ 50 pages/s", "yes", "[x] 3"):
        assert said in text


@pytest.mark.parametrize("bar", [{"at_least": 52}, {"at_most": 50}])
def test_a_missed_bar_is_red(bar):
    code, text = published(report(result(51, **bar), result(51, at_least=50)))
    assert code == 1
    assert "NO" in text


def test_a_benchmark_that_failed_is_red_and_says_why():
    code, text = published(report(Measured(name="crawl", seconds=1, error="RuntimeError: [Errno 1] broke")))
    assert code == 1
    assert "RuntimeError: [Errno 1] broke" in text


def test_a_skipped_benchmark_says_why_and_is_not_red():
    skipped = Measured(name="features", seconds=1, benchmark=Benchmark(name="features", skipped="no corpus here"))
    code, text = published(report(skipped))
    assert code == 0
    assert "no corpus here" in text


def test_the_json_says_the_same(tmp_path):
    published(report(result(51, at_least=52)), str(tmp_path / "out.json"))
    read = json.loads((tmp_path / "out.json").read_text())
    assert read["machine"]["cpu"] == "A [fast] CPU"
    [one] = read["results"]
    assert one["met"] is False
    assert one["benchmark"]["bars"] == [
        {"what": "pages", "value": 51.0, "unit": "pages/s", "at_least": 52.0, "at_most": None, "met": False}
    ]


def test_this_machine_is_described():
    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory > 0.5


def test_a_benchmark_runs_in_a_process_of_its_own_and_its_crash_is_reported():
    failed = measured("no_such_benchmark")
    assert not failed.met
    assert "no_such_benchmark" in failed.error


def test_an_unknown_name_is_refused_with_the_known_ones():
    done = CliRunner().invoke(bench, ["nonsense"])
    assert done.exit_code == 2
    for name in BENCHMARKS:
        assert name in done.output


def test_an_unchanged_second_run_downloads_writes_and_embeds_nothing():
    figures = rerun.measure(pages=12, embedder=HashingEmbedder(32))
    assert [(bar.what, bar.value) for bar in figures.bars[:3]] == [
        ("bodies downloaded", 0),
        ("documents written", 0),
        ("chunks embedded", 0),
    ]
    assert figures.bars[3].value > 0


def test_the_memory_of_a_run_is_counted():
    figures = memory.measure(few=5, many=10)
    assert all(bar.value > 0 for bar in figures.bars)
    assert set(figures.figures) == {"5 documents", "10 documents", "each"}


def test_a_run_that_indexed_other_documents_than_it_was_given_is_no_measurement(monkeypatch):
    monkeypatch.setattr(memory, "write", lambda folder, documents: folder.mkdir())
    with pytest.raises(RuntimeError, match="indexing 3 documents ended with exit code 1"):
        memory.peak(3)
