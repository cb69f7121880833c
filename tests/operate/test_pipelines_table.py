"""What is said of a pipeline anywhere is what its row says, and a row is all that a new pipeline needs."""

import os
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
from conftest import ROOT

from llm_engineering.bootstrap import open_platform
from llm_engineering.features.config import EtlConfig, FeatureConfig
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.operate.configs import load_config
from llm_engineering.operate.pipelines import PIPELINES, Pipeline, Store, pipeline_named
from tools.orchestrator import start
from tools.tables import written
from tools.tasks import tasks


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda one: one.name)
def test_a_row_has_its_config_its_wiring_and_its_task(pipeline: Pipeline, monkeypatch):
    monkeypatch.chdir(ROOT)
    load_config(pipeline.name, pipeline.config)
    wiring = getattr(import_module(f"pipelines.{pipeline.name}"), pipeline.name)
    parameters = set(wiring.entrypoint.__annotations__) - {"config", "return"}
    assert parameters == {switch.name for switch in pipeline.switches}
    assert pipeline.command in tasks()["tasks"][pipeline.task]["cmd"]


def test_the_docs_and_the_owners_say_what_the_table_says():
    stale = [path.name for path, text in written(ROOT).items() if path.read_text() != text]
    assert stale == [], "run `poe tables`"


def test_every_word_is_used_once():
    for words in ([one.name for one in PIPELINES], [one.task for one in PIPELINES]):
        assert len(set(words)) == len(words)


def test_a_pipeline_touches_only_the_stores_its_row_names(monkeypatch, notes, tmp_path):
    """Crawling makes no index, building the index writes nothing into the warehouse, and measuring needs none."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    homes = {Store.WAREHOUSE: tmp_path / "twin" / "warehouse.db", Store.VECTORS: tmp_path / "twin" / "vectors"}
    config = EtlConfig.model_validate({"authors": [{"name": "Ann", "links": [{"local_files": str(notes("ann", 6))}]}]})

    start("digital_data_etl", config, {"revalidate": True, "retry_failed": False})
    untouched = set(homes) - set(pipeline_named("digital_data_etl").stores)
    assert [store for store in untouched if homes[store].exists()] == []

    with open_platform() as platform:
        before = [(one.id, one.revision) for one in platform.warehouse.documents()]
    start("feature_engineering", FeatureConfig(), {"rebuild": False})
    with open_platform() as platform:
        assert [(one.id, one.revision) for one in platform.warehouse.documents()] == before
    assert Store.WAREHOUSE not in pipeline_named("feature_engineering").writes

    homes[Store.WAREHOUSE].unlink()
    start("evaluate_retrieval", RetrievalEvaluationConfig(queries=6, resamples=100), {})
    assert pipeline_named("evaluate_retrieval").writes == ()
    assert not homes[Store.WAREHOUSE].exists()


TOY = {
    "configs/count_words.yaml": "at_least: 3\n",
    "llm_engineering/features/words.py": """
from datetime import UTC, datetime

from llm_engineering.domain.noun import Noun
from llm_engineering.domain.runs import Report


class WordsConfig(Noun):
    at_least: int = 1


class WordsReport(Report):
    title, item = "Words", "Document"

    words: int = 0

    @property
    def part(self) -> str:
        return "words"

    def counts(self) -> dict[str, int]:
        return {"words": self.words}


def count_words(warehouse, *, at_least, loudly, on_progress):
    words = sum(len(one.body.split()) for one in warehouse.documents())
    report = WordsReport(started_at=datetime.now(UTC), words=words, red="" if words >= at_least else "too few words")
    on_progress(report)
    return report


def plan_words(platform, config, switches):
    yield f"at least {config.at_least} words would be counted{' loudly' if switches['loudly'] else ''}"
""",
    "steps/count_words.py": """
from typing import Annotated

from zenml import step

from llm_engineering.bootstrap import open_platform
from llm_engineering.features.words import WordsConfig, WordsReport, count_words
from steps.reporting import reporting
from steps.run_control import publish_progress


@step(enable_cache=False)
def count(config: WordsConfig, loudly: bool) -> Annotated[WordsReport, "words_report"]:
    with reporting(WordsReport) as finished, open_platform() as twin:
        counted = count_words(
            twin.warehouse, at_least=config.at_least, loudly=loudly, on_progress=publish_progress
        )
        return finished(counted)
""",
    "pipelines/count_words.py": """
from zenml import pipeline
from zenml.enums import ExecutionMode

from llm_engineering.features.words import WordsConfig
from pipelines.outcome import raise_if_red, settle
from steps.count_words import count
from steps.report import report


@pipeline(dynamic=True, enable_cache=False, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def count_words(config: WordsConfig, loudly: bool = False) -> None:
    counted = settle({"words": count.submit(config=config, loudly=loudly, id="count")})
    report(after=counted.green)
    raise_if_red(counted.red)
""",
}
ROW = """    Pipeline(
        name="count_words",
        task="run-count-words",
        help="Count the words of the warehouse",
        config=words.WordsConfig,
        plan=words.plan_words,
        reads=(Store.WAREHOUSE,),
        owner="@llm-twin/words",
        switches=(Switch(name="loudly", option="--loudly", help="Out loud."),),
    ),
"""
PAGE = """
import sys
from tools.orchestrator import find_run, prepare
prepare()
run = find_run(sys.argv[1])
print(run.steps["report"].outputs["report_page"][0].load())
"""


@pytest.fixture
def with_toy(tmp_path, notes):
    """The project with one more row and its modules; types a command there."""
    for name in ("llm_engineering", "steps", "pipelines", "tools", "configs", "docs"):
        shutil.copytree(
            ROOT / name, tmp_path / "project" / name, ignore=shutil.ignore_patterns("__pycache__", "images")
        )
    root = tmp_path / "project"
    for name in ("pyproject.toml", "CODEOWNERS"):
        shutil.copy(ROOT / name, root)
    for path, text in TOY.items():
        (root / path).write_text(text)
    table = root / "llm_engineering/operate/pipelines.py"
    text = table.read_text().replace("PIPELINES = (\n", f"PIPELINES = (\n{ROW}", 1)
    rooms = "from llm_engineering.features import words\nfrom llm_engineering.operate import plans\n"
    table.write_text(text.replace("from llm_engineering.operate import plans\n", rooms, 1))

    def typed(*words: str) -> subprocess.CompletedProcess:
        env = os.environ | {"PYTHONPATH": str(root), "TWIN_EMBEDDER": "hashing:64", "COLUMNS": "120"}
        return subprocess.run([sys.executable, *words], cwd=root, env=env, capture_output=True, text=True, timeout=250)

    return typed


@pytest.mark.slow
def test_a_fifth_pipeline_is_one_row_and_its_own_modules(with_toy, notes, tmp_path):
    author = {"authors": [{"name": "Ann", "links": [{"local_files": str(notes("ann"))}]}]}
    config = tmp_path / "etl.json"
    config.write_text(str(author).replace("'", '"'))  # JSON is YAML
    assert with_toy("-m", "tools.run", "digital_data_etl", "--config", str(config)).returncode == 0

    plan = with_toy("-m", "tools.run", "count_words", "--dry-run", "--loudly")
    assert "at least 3 words would be counted loudly" in plan.stdout, plan.stderr
    assert "warehouse" in plan.stdout

    ran = with_toy("-m", "tools.run", "count_words")
    assert ran.returncode == 0, ran.stderr
    assert any(line.split()[:2] == ["words", "36"] for line in ran.stdout.splitlines()), ran.stdout
    run_name = ran.stdout.split("green")[1].split()[0]
    page = with_toy("-c", PAGE, run_name).stdout
    assert "<h2>Words</h2>" in page
    assert ">36</td>" in page

    assert "run-count-words" in with_toy("-c", "from tools.tasks import tasks; print(tasks())").stdout
    assert with_toy("-m", "tools.tables").returncode == 0
    root = tmp_path / "project"
    assert "| `poe run-count-words` |" in (root / "docs/run.md").read_text()
    assert "/steps/count_words.py" in (root / "CODEOWNERS").read_text()


@pytest.mark.slow
def test_a_fifth_pipeline_that_is_red_says_so_and_keeps_its_report(with_toy, tmp_path):
    (tmp_path / "strict.yaml").write_text("at_least: 1000000\n")
    ran = with_toy("-m", "tools.run", "count_words", "--config", str(tmp_path / "strict.yaml"))
    assert ran.returncode == 1
    assert "words: too few words" in ran.stderr
    assert any(line.split()[:1] == ["words"] for line in ran.stdout.splitlines()), ran.stdout
