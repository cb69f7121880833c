"""An installed wheel claims no name that another package could want; an editable install has everything."""

import shutil
import zipfile

import pytest
from conftest import ROOT

COMMANDS = {"steps", "pipelines", "tools"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy, because building writes nothing into the checkout."""
    for name in ("llm_engineering", *COMMANDS):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_wheel_holds_llm_engineering_only(project):
    from poetry.core.masonry.api import build_wheel

    with zipfile.ZipFile(project / build_wheel(str(project))) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"llm_engineering"}
    assert "llm_engineering/serving/chat/page.css" in names


def test_an_editable_install_finds_the_commands_too(project):
    from poetry.core.masonry.api import build_editable

    with zipfile.ZipFile(project / build_editable(str(project))) as wheel:
        [path] = [wheel.read(name).decode().split() for name in wheel.namelist() if name.endswith(".pth")]
    assert path == [str(project)]
    assert {folder.name for folder in project.iterdir()} >= COMMANDS
