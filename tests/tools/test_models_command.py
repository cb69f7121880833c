"""`poe models list|register|promote`, as a person types it, and what `poe doctor` says of the model that is chosen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT
from tiny_model import make_tiny_model

from llm_engineering.domain.documents import Author
from llm_engineering.settings import load_settings
from tools.diagnosis import Check, State, diagnose
from tools.doctor import model
from tools.models import models as command


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def name(request):
    return request.node.name.removeprefix("test_").partition("[")[0][:60]


def run(*words):
    return CliRunner().invoke(command, [str(word) for word in words], env={"COLUMNS": "200"})


def listed(name: str) -> list[dict]:
    done = run("list", "--json")
    assert done.exit_code == 0, done.output
    return [one for one in json.loads(done.stdout) if one["name"] == name]


def test_a_folder_is_registered_promoted_listed_and_rolled_back(tiny, tmp_path, name):
    done = run("register", name, tiny, "--fact", "loss=0.71", "--fact", "data=ann@3", "--fact", "note=[bold]a=b")
    assert done.exit_code == 0, done.output
    assert f"{name}@1 is registered" in done.output
    assert f"poe models promote {name} 1" in done.output
    assert f"TWIN_LANGUAGE_MODEL=registry:{name} answers" in run("promote", name, 1).output
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    (other / "note.txt").write_text("another")
    run("register", name, other)
    assert f"registry:{name}@staging answers" in run("promote", name, 2, "--stage", "staging").output
    run("promote", name, 2)
    assert [(one["version"], one["stage"]) for one in listed(name)] == [(2, "production"), (1, "archived")]
    assert run("promote", name, 1).exit_code == 0
    second, first = listed(name)
    assert (first["stage"], second["stage"]) == ("production", "archived")
    assert first["facts"] == {"loss": 0.71, "data": "ann@3", "note": "[bold]a=b"}
    assert first["damage"] == ""
    table = run("list").output
    assert "loss 0.71, data ann@3, note [bold]a=b" in table
    assert run("promote", name, 1, "--stage", "archived").output == f"{name}@1: archived\n"


def test_registering_again_what_is_in_use_does_not_ask_for_a_promotion(tiny, name):
    run("register", name, tiny)
    run("promote", name, 1)
    assert "promote" not in run("register", name, tiny).output


def test_whose_writing_a_model_was_trained_on_is_kept_by_id(tiny, name):
    run("register", name, tiny, "--author", "Bob", "--author", "Ann Other", "--author", "ann  other")
    assert set(listed(name)[0]["facts"]["authors"].split()) == {Author(name="Bob").id, Author(name="Ann Other").id}


def test_damaged_weights_are_listed_as_such(tiny, name):
    run("register", name, tiny)
    [one] = listed(name)
    shutil.rmtree(one["folder"])
    assert listed(name)[0]["damage"].endswith("is gone")
    assert "damaged: " in run("list").output
    done = run("promote", name, 1)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "register the model again" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("register", "a b", "."), 2, "cannot be the name of a model"),
        (("register", "a", "no/such/folder"), 2, "no/such/folder is no folder"),
        (("register", "a", ".", "--fact", "loss"), 2, "write KEY=VALUE"),
        (("register", "a", ".", "--fact", "loss=nan"), 2, "finite"),
        (("promote", "never-registered", "1"), 1, "has no model never-registered"),
        (("promote", "a", "0"), 2, "0 is not in the range"),
        (("promote", "a", "1", "--stage", "gold"), 2, "'gold' is not one of"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_with_the_exit_code(tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_an_empty_registry_says_how_to_fill_it_and_nothing_else(tmp_path):
    fresh = {**os.environ, "ZENML_CONFIG_PATH": str(tmp_path / "zenml")}
    words = [sys.executable, "-m", "tools.models", "list"]
    done = subprocess.run(words, cwd=ROOT, env=fresh, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the registry is empty: `poe models register NAME FOLDER` puts a model in\n"


def test_the_doctor_says_whether_the_chosen_model_is_there(tiny, name, monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:8")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", f"registry:{name}")

    def look():
        return diagnose(Check("model", model), load_settings())

    empty = look()
    assert empty.state == State.BROKEN
    assert f"poe models register {name} FOLDER" in empty.found
    run("register", name, tiny)
    assert f"poe models promote {name} VERSION" in look().found
    run("promote", name, 1)
    there = look()
    assert there.state == State.FINE
    assert there.found.startswith(f"registry: {name}@1 (production)")
