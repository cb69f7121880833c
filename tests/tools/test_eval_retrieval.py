"""`poe eval-retrieval`, from the command line to its exit code, and the page it writes."""

import json
import re

import pytest
from click.testing import CliRunner
from passages import fill, passage

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.operate.reports.retrieval_page import render_report
from llm_engineering.operate.retrieval_evaluation import accepted_file
from tools.eval_retrieval import main

SUBJECTS = ("bread", "robots", "gardens", "engines", "glaciers", "violins")


@pytest.fixture
def platform(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    with open_platform() as platform:
        yield platform


@pytest.fixture
def indexed(platform):
    chunks = [
        passage(
            2 * number + part,
            document=number,
            text=f"## On {verb} {subject} well\n\nWhoever has {subject} and is {verb} them in {1900 + number} needs "
            + "patience, a table and a good friend who knows about it already"
            + " again" * number
            + ".",
            title=f"The <b>long</b> book of {subject}",
            headings=(f"The long book of {subject}", f"On {verb} {subject} well"),
            start=1000 * part,
        )
        for number, subject in enumerate(SUBJECTS)
        for part, verb in enumerate(("mending", "buying"))
    ]
    rows = platform.embedder.embed([chunk.text for chunk in chunks])
    pairs = [EmbeddedChunk(*pair) for pair in zip(chunks, rows, strict=True)]
    fill(platform.vectors, pairs, spec=IndexSpec(embedding=platform.embedder.spec))
    return platform


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text("queries: 30\nresamples: 100\n")
    return str(file)


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def test_it_shows_every_setting_and_writes_json_and_a_page(indexed, config, tmp_path):
    done = run("--config", config, "--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html"))
    assert done.exit_code == 0, done.output
    report = RetrievalReport.model_validate_json((tmp_path / "r.json").read_text())
    assert report.best in report.settings
    assert "--accept" in done.output
    page = (tmp_path / "r.html").read_text()
    assert all(name in page for name in report.settings)
    assert page.count("<svg") >= 5
    assert not re.search(r"(src|href)=|<script|@import", page)


def test_json_on_the_standard_output_is_nothing_but_json(indexed, config):
    done = run("--config", config, "--json", "-")
    assert json.loads(done.stdout)["golden"]


def test_a_run_is_accepted_and_a_later_fall_is_red(indexed, config):
    assert run("--config", config, "--accept").exit_code == 0
    assert run("--config", config).exit_code == 0
    file = accepted_file(indexed.settings)
    accepted = json.loads(file.read_text())
    for scores in accepted["scores"]:
        scores["measures"]["mrr@10"]["value"] += 0.5
    file.write_text(json.dumps(accepted))
    done = run("--config", config)
    assert done.exit_code == 1
    assert "retrieval got worse" in " ".join(done.output.split())
    assert run("--config", config, "--accept").exit_code == 0
    assert run("--config", config).exit_code == 0


def test_an_accepted_run_of_another_version_is_said_to_be_one(indexed, config):
    file = accepted_file(indexed.settings)
    file.parent.mkdir(parents=True)
    file.write_text('{"golden": 3}')
    done = run("--config", config)
    assert done.exit_code == 2
    assert "--accept" in done.output


def test_nothing_indexed_says_what_to_run(platform, config):
    done = run("--config", config)
    assert done.exit_code == 1
    assert "poe run-features" in done.output


def test_a_typo_in_the_config_stops_it_before_anything(platform, tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text("querys: 3\n")
    done = run("--config", str(file))
    assert done.exit_code == 2
    assert "did you mean queries?" in done.output


def test_a_cross_encoder_that_cannot_be_had_is_said_before_anything_is_measured(indexed, tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text("queries: 30\nresamples: 100\nretrieval:\n  cross_encoder: ./nowhere\n")
    done = run("--config", str(file))
    assert done.exit_code == 1
    assert "no such folder" in done.output


def test_a_red_page_says_so(indexed, config, tmp_path):
    run("--config", config, "--json", str(tmp_path / "r.json"))
    report = RetrievalReport.model_validate_json((tmp_path / "r.json").read_text())
    page = render_report(report.model_copy(update={"red": "it <fell>"}))
    assert "it &lt;fell&gt;" in page
    assert 'class="state red"' in page
