import json

import pytest
from click.testing import CliRunner
from conftest import ROOT

from llm_engineering.domain.errors import ConfigError
from llm_engineering.settings import Settings, load_settings
from tools import doctor as doctors
from tools.diagnosis import Check, State, diagnose, examine
from tools.doctor import CHECKS, doctor


@pytest.fixture
def examined(monkeypatch):
    """examined() types `poe doctor --json`, and gives the exit code and the findings by piece."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")

    def look() -> tuple[int, dict[str, dict]]:
        result = CliRunner().invoke(doctor, ["--json"])
        return result.exit_code, {finding["piece"]: finding for finding in json.loads(result.stdout)}

    return look


def test_a_fresh_project_is_ready_and_is_told_what_to_do_first(examined):
    code, found = examined()

    assert code == 0, found
    assert list(found) == ["settings", *(check.piece for check in CHECKS)]
    assert found["warehouse"]["state"] == "note"
    assert "run-etl" in found["warehouse"]["mend"]
    assert "run-features" in found["vectors"]["mend"]
    assert found["zenml"]["state"] == "fine"
    assert found["configs"]["state"] == "fine"


def test_a_filled_project_says_what_it_holds_and_what_waits(examined, type_run, notes, config_file):
    folder = notes("ann")
    etl = config_file({"authors": [{"name": "Ann", "links": [{"local_files": str(folder)}]}]})
    features = config_file("", "features.yaml")
    type_run("digital_data_etl", "--config", etl)
    type_run("feature_engineering", "--config", features)
    _, full = examined()
    (folder / "4.md").write_text("# One more\n\nSomething new to say.\n")
    type_run("digital_data_etl", "--config", etl)
    _, waiting = examined()

    assert "3 documents" in full["warehouse"]["found"]
    assert "3 passages" in full["vectors"]["found"]
    assert full["up to date"]["state"] == "fine"
    assert waiting["up to date"]["state"] == "note"
    assert "1 changes wait" in waiting["up to date"]["found"]


def test_another_embedder_than_the_indexs_is_broken_and_asks_for_a_rebuild(
    examined, type_run, notes, config_file, monkeypatch
):
    etl = config_file({"authors": [{"name": "Ann", "links": [{"local_files": str(notes("ann"))}]}]})
    type_run("digital_data_etl", "--config", etl)
    type_run("feature_engineering", "--config", config_file("", "features.yaml"))
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:32")
    code, found = examined()

    assert code == 1
    assert found["up to date"]["state"] == "broken"
    assert "--rebuild" in found["up to date"]["mend"]


def test_an_index_of_before_revisions_asks_for_a_rebuild(examined, type_run, notes, config_file, tmp_path):
    etl = config_file({"authors": [{"name": "Ann", "links": [{"local_files": str(notes("ann"))}]}]})
    type_run("digital_data_etl", "--config", etl)
    type_run("feature_engineering", "--config", config_file("", "features.yaml"))
    [manifest] = (tmp_path / "twin" / "vectors").glob("*/manifest.json")
    built = json.loads(manifest.read_text())
    del built["spec"]["embedding"]["revision"]
    manifest.write_text(json.dumps(built))
    _, found = examined()

    assert found["up to date"]["state"] == "broken"
    assert "which revision" in found["up to date"]["found"]
    assert "--rebuild" in found["up to date"]["mend"]


def test_a_held_lock_is_noted(examined, tmp_path):
    from llm_engineering.infrastructure.vectors import index_versions

    with index_versions.lock(tmp_path / "twin" / "vectors"):
        _, found = examined()
    assert found["lock"]["state"] == "note"
    assert "process" in found["lock"]["found"]
    assert examined()[1]["lock"]["state"] == "fine"


def test_one_broken_piece_hides_no_other(examined, monkeypatch, tmp_path):
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "warehouse.db").write_text("this is no database " * 300)
    (tmp_path / "twin" / "vectors").mkdir()
    (tmp_path / "twin" / "vectors" / "CURRENT").write_text("000009")
    monkeypatch.setenv("TWIN_CHROMIUM", str(tmp_path / "no-browser"))
    code, found = examined()

    assert code == 1
    states = {piece: finding["state"] for piece, finding in found.items()}
    assert states["warehouse"] == states["vectors"] == "broken"
    assert states["browser"] == "note"
    assert states["python"] == states["embedder"] == states["zenml"] == "fine"
    assert all(finding["mend"] for finding in found.values() if finding["state"] != "fine")


def test_a_server_that_is_down_is_broken_and_no_password_is_shown(examined, monkeypatch):
    monkeypatch.setenv("TWIN_WAREHOUSE", "mongodb://ann:secret1@127.0.0.1:1/twin?serverSelectionTimeoutMS=50")
    monkeypatch.setenv("TWIN_VECTORS", "http://127.0.0.1:1")
    monkeypatch.setenv("TWIN_QDRANT_API_KEY", "secret2")
    code, found = examined()

    assert code == 1
    assert found["warehouse"]["state"] == found["vectors"]["state"] == "broken"
    assert "127.0.0.1:1" in found["warehouse"]["found"]
    assert "secret" not in json.dumps(found)


def test_a_wrong_setting_is_the_one_finding(examined, monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDER", "x")
    code, found = examined()
    assert code == 1
    assert "TWIN_EMBEDDER" in found["settings"]["found"]


def test_a_wrong_config_is_noted_with_its_line(examined, monkeypatch, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digital_data_etl.yaml").write_text("authors: []\n")
    monkeypatch.chdir(tmp_path)
    _, found = examined_here()
    assert found["configs"]["state"] == "note"
    assert "line 1" in found["configs"]["found"]
    assert "feature_engineering.yaml is not there" in found["configs"]["found"]


def examined_here() -> tuple[int, dict[str, dict]]:
    result = CliRunner().invoke(doctor, ["--json"])
    return result.exit_code, {finding["piece"]: finding for finding in json.loads(result.stdout)}


def test_a_check_with_a_bug_is_a_finding_and_not_an_end():
    def bug(_: Settings) -> str:
        raise ZeroDivisionError("by nothing")

    def fault(_: Settings) -> str:
        raise ConfigError("not like this")

    found = [diagnose(check, load_settings()) for check in (Check("a", bug), Check("b", fault), Check("c", bug, False))]
    assert [finding.state for finding in found] == [State.BROKEN, State.BROKEN, State.NOTE]
    assert found[0].found == "ZeroDivisionError: by nothing"


def test_a_full_or_read_only_disk_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(doctors, "LITTLE_SPACE", 10**18)
    little = diagnose(Check("disk", doctors.disk), load_settings())
    assert little.state == State.NOTE
    assert "free" in little.mend


def test_the_table_marks_every_piece_and_counts_what_to_mend(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_WAREHOUSE", f"sqlite:////{tmp_path / 'twin'}")
    (tmp_path / "twin").mkdir()
    result = CliRunner().invoke(doctor, [])

    assert result.exit_code == 1
    assert "✓" in result.output
    assert "✗" in result.output
    assert "1 to mend" in result.output


def test_examine_gives_its_findings_one_by_one():
    first = next(iter(examine(CHECKS)))
    assert first.piece == "settings"


def test_a_model_server_that_is_down_is_broken_and_named(examined, monkeypatch):
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:any")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TWIN_OPENAI_API_KEY", "my-secret")
    code, found = examined()

    assert code == 1
    assert found["model"]["state"] == "broken"
    assert "127.0.0.1:9" in found["model"]["found"]
    assert "my-secret" not in json.dumps(found)
