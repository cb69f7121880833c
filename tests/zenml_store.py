"""A ZenML of the tests' own, made once per session: its database takes seconds to build. No test sees a developer's."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

# before anything imports zenml, and for the subprocesses too
_folder = tempfile.mkdtemp(prefix="llm-twin-zenml-")
os.environ["ZENML_CONFIG_PATH"] = _folder
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


@pytest.fixture
def zenml_run():
    """The ZenML run of that name, as `poe dashboard` would show it."""
    from tools.orchestrator import find_run, prepare

    prepare()
    return find_run


@pytest.fixture
def notes(tmp_path):
    """notes("ann", 3) makes a folder with three notes, and gives it."""

    def make(name: str, count: int = 3) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for n in range(1, count + 1):
            (folder / f"{n}.md").write_text(f"# Note {n} of {name}\n\nWhat {name} thinks about matter number {n}.\n")
        return folder

    return make


@pytest.fixture
def config_file(tmp_path):
    """Writes a config and gives its path; text is written as it is."""

    def write(content: dict | str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def type_run(monkeypatch):
    """Types `python -m tools.run …` in this process, with an embedder that needs no model."""
    from tools.run import run

    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    return lambda *words: CliRunner().invoke(run, [str(word) for word in words])
