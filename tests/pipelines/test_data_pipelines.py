"""The three data pipelines in a real ZenML, with real stores: colours, isolation, reports."""

import pytest

from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.runs import CrawlReport, FeatureReport
from llm_engineering.features.config import EndToEndConfig, EtlConfig, FeatureConfig
from pipelines.outcome import step_id
from steps import run_control
from tools.orchestrator import start

ONCE = {"revalidate": True, "retry_failed": False, "rebuild": False}


@pytest.fixture(autouse=True)
def _embedder(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")


def both(authors: dict[str, object], **etl) -> EndToEndConfig:
    lines = tuple({"name": name, "links": [{"local_files": str(folder)}]} for name, folder in authors.items())
    return EndToEndConfig(etl=EtlConfig(authors=lines, **etl))


def page_of(run) -> str:
    return run.steps["report"].outputs["report_page"][0].load()


def test_a_run_reads_every_author_and_builds_the_features(notes, zenml_run):
    finished = start("end_to_end_data", both({"Ann Lee": notes("ann"), "Bob": notes("bob", 2)}), ONCE)

    assert finished.red == {}
    assert {report.author: report.documents_inserted for report in finished.record.of(CrawlReport)} == {
        "Ann Lee": 3,
        "Bob": 2,
    }
    assert finished.record.of(FeatureReport)[0].documents_indexed == 5
    run = zenml_run(finished.name)
    assert run.status == "completed"
    assert set(run.steps) == {"crawl_Ann_Lee", "crawl_Bob", "build_features", "report"}
    assert run.steps["crawl_Ann_Lee"].run_metadata["documents_inserted"] == 3
    assert run.steps["build_features"].run_metadata["chunks_embedded"] == 5
    assert "Ann Lee" in page_of(run)
    assert "Green." in page_of(run)


def test_one_author_failing_leaves_the_others_complete_and_the_run_red(notes, tmp_path, zenml_run):
    config = both({"<b>Nobody</b>": tmp_path / "nowhere", "Ann": notes("ann")})
    finished = start("end_to_end_data", config, ONCE)

    assert list(finished.red) == ["<b>Nobody</b>"]
    assert "0 of 1 links" in finished.red["<b>Nobody</b>"]
    assert finished.record.of(FeatureReport)[0].documents_indexed == 3
    run = zenml_run(finished.name)
    colours = {
        name.split("_")[1] if name.startswith("crawl") else name: step.status for name, step in run.steps.items()
    }
    assert run.status == "failed"
    assert colours == {"b": "failed", "Ann": "completed", "build_features": "completed", "report": "completed"}
    page = page_of(run)
    assert "&lt;b&gt;Nobody&lt;/b&gt;" in page
    assert "<b>Nobody" not in page
    assert "missing_file" in page
    assert "nowhere" in page


def test_a_second_run_does_nothing(notes):
    config = both({"Ann": notes("ann")})
    start("end_to_end_data", config, ONCE)
    again = start("end_to_end_data", config, ONCE).record

    assert (again.of(CrawlReport)[0].read, again.of(CrawlReport)[0].unchanged) == (0, 1)
    assert (again.of(CrawlReport)[0].documents_inserted, again.of(CrawlReport)[0].documents_updated) == (0, 0)
    assert (again.of(FeatureReport)[0].documents_seen, again.of(FeatureReport)[0].chunks_embedded) == (0, 0)


def test_an_edited_and_a_removed_file_are_followed(notes):
    folder = notes("ann")
    config = EtlConfig(authors=({"name": "Ann", "links": [{"local_files": str(folder)}]},))
    crawl = {"revalidate": True, "retry_failed": False}
    start("digital_data_etl", config, crawl)
    start("feature_engineering", FeatureConfig(), {"rebuild": False})
    (folder / "1.md").write_text("# Another mind\n\nAnn changed what she thinks.\n")
    (folder / "2.md").unlink()
    crawled = start("digital_data_etl", config, crawl).record.of(CrawlReport)[0]
    built = start("feature_engineering", FeatureConfig(), {"rebuild": False}).record.of(FeatureReport)[0]

    assert (crawled.documents_updated, crawled.documents_deleted) == (1, 1)
    assert (built.documents_indexed, built.documents_removed, built.chunks_total) == (1, 1, 2)


def test_a_store_that_is_down_is_said_by_every_step_and_the_run_is_red(notes, monkeypatch, tmp_path, zenml_run):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TWIN_WAREHOUSE", f"sqlite:///{tmp_path / 'file' / 'warehouse.db'}")
    finished = start("end_to_end_data", both({"Ann": notes("ann")}), ONCE)

    assert set(finished.red) == {"Ann", "features"}
    assert all("warehouse.db" in why and "not foreseen" not in why for why in finished.red.values())
    run = zenml_run(finished.name)
    assert run.status == "failed"
    assert "warehouse.db" in page_of(run)


def test_a_locked_index_makes_the_features_red_and_keeps_what_was_crawled(notes, tmp_path, monkeypatch, zenml_run):
    from llm_engineering.infrastructure.vectors import index_versions

    root = tmp_path / "twin" / "vectors"
    config = both({"Ann": notes("ann")})
    with index_versions.lock(root):
        finished = start("end_to_end_data", config, ONCE)
        with pytest.raises(StoreLocked), index_versions.lock(root):
            pass
    assert list(finished.red) == ["features"]
    assert "is being written by process" in finished.red["features"]
    assert finished.record.of(CrawlReport)[0].documents_inserted == 3

    after = start("feature_engineering", FeatureConfig(), {"rebuild": False})
    assert after.red == {}
    assert after.record.of(FeatureReport)[0].documents_indexed == 3


def test_a_stopped_run_is_red_builds_nothing_and_goes_on_next_time(notes, tmp_path, zenml_run):
    config = both({"Ann": notes("ann"), "Bob": notes("bob")})
    try:
        run_control.stopping.set()
        finished = start("end_to_end_data", config, ONCE)
    finally:
        run_control.stopping.clear()

    assert set(finished.red) == {"Ann", "Bob"}
    assert "run again" in finished.red["Ann"]
    assert finished.record.of(FeatureReport) == []
    assert zenml_run(finished.name).status == "failed"
    again = start("end_to_end_data", config, ONCE)
    assert again.red == {}
    assert again.record.of(FeatureReport)[0].chunks_total == 6


def test_progress_is_heard_while_the_steps_run(notes):
    heard: list[tuple[str, str]] = []

    def listener(part: str, line: str) -> None:
        heard.append((part, line))

    run_control.listeners.append(listener)
    try:
        start("end_to_end_data", both({"Ann": notes("ann")}), ONCE)
    finally:
        run_control.listeners.remove(listener)

    assert ("Ann", "1 links") in heard
    assert ("features", "3 documents, 3 passages embedded") in heard


def test_names_that_look_alike_to_zenml_get_steps_of_their_own():
    names = ["Ann Lee", "Ann-Lee", "Ann.Lee", "安", "李", "x" * 200, "x" * 201]
    ids = [step_id("crawl", name) for name in names]

    assert ids[0] == "crawl_Ann_Lee"
    assert len(set(ids)) == len(names)
    assert all(id_.replace("_", "").isalnum() and id_.isascii() and len(id_) < 80 for id_ in ids)
