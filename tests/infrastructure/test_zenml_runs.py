"""What is erased of the record of runs, and what of others in the same ZenML is left alone."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import EtlConfig, FeatureConfig
from llm_engineering.infrastructure.zenml.connection import open_zenml
from llm_engineering.infrastructure.zenml.runs import ZenMLRuns
from tools.orchestrator import start

CRAWL = {"revalidate": True, "retry_failed": False}
RUNS = ZenMLRuns()


@pytest.fixture(autouse=True)
def _embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")


def crawl(name: str, folder: Path) -> str:
    """The name of a run that read the folder."""
    config = EtlConfig.model_validate({"authors": [{"name": name, "links": [{"local_files": str(folder)}]}]})
    finished = start("digital_data_etl", config, CRAWL)
    assert finished.red == {}
    return finished.name


THEIRS = """
from zenml import pipeline, step
@step(enable_cache=False)
def greet(name: str) -> str:
    return name
@pipeline(enable_cache=False)
def theirs(name: str) -> None:
    greet(name)
if __name__ == "__main__":
    theirs.with_options(run_name="theirs-1")(name="Cleo Shared")
"""


@pytest.mark.slow
def test_a_run_of_somebody_elses_pipeline_is_left_alone(notes: Callable, zenml_run: Callable, tmp_path: Path) -> None:
    ours = crawl("Cleo Shared", notes("cleo"))
    (tmp_path / "theirs.py").write_text(THEIRS)
    subprocess.run([sys.executable, "theirs.py"], cwd=tmp_path, check=True, timeout=200)
    cleo = DataSubject(name="Cleo Shared")
    assert RUNS.holds(cleo) == 1
    assert RUNS.erase(cleo) == Erased(1)
    assert zenml_run(ours) is None
    assert zenml_run("theirs-1").steps["greet"].config.parameters == {"name": "Cleo Shared"}


def test_a_run_that_only_names_a_link_of_theirs_is_erased(notes: Callable, zenml_run: Callable) -> None:
    """The report of the features names the documents of which nothing was left."""
    folder = notes("dora", 1)
    (folder / "empty.html").write_text("<html><body><script>nothing to read</script></body></html>")
    crawl("Dora", folder)
    built = start("feature_engineering", FeatureConfig(), {"rebuild": False})
    [report] = built.record.of(FeatureReport)
    [link] = report.documents_empty
    assert RUNS.holds(DataSubject(name="nobody", links=frozenset([link]))) == 1
    RUNS.erase(DataSubject(name="Dora", links=frozenset([link])))
    assert zenml_run(built.name) is None


@pytest.mark.slow
def test_erasing_under_another_process_that_holds_the_database_says_so_and_can_be_repeated(
    notes: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl("Emil", notes("emil"))
    from zenml.zen_stores.sql_zen_store import SqlZenStore

    store = open_zenml().zen_store
    assert isinstance(store, SqlZenStore)
    reader = sqlite3.connect(str(store.config.database), isolation_level=None)
    try:
        RUNS.erase(DataSubject(name="nobody at all"))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pipeline_run").fetchone()
        with pytest.raises(StoreLocked, match="poe dashboard --stop"):
            RUNS.erase(DataSubject(name="nobody at all"))
    finally:
        reader.close()
    assert RUNS.erase(DataSubject(name="Emil")) == Erased(1)
