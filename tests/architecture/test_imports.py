"""Importing does nothing, and the doors between the rooms are closed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench.imports import everything, imported

ROOT = Path(__file__).resolve().parent.parent.parent
TOGETHER = everything()
ADAPTERS = tuple(name for what, names in TOGETHER.items() if what.startswith("infrastructure") for name in names)


@pytest.mark.parametrize("what", [what for what in TOGETHER if not what.startswith("infrastructure")])
def test_importing_a_room_loads_nothing_heavy(what):
    assert imported(TOGETHER[what])[1] == []


def test_importing_every_adapter_loads_nothing_heavy():
    assert len(ADAPTERS) > 10
    assert imported(ADAPTERS)[1] == []


def test_a_heavy_import_would_be_noticed():
    assert "pymongo" in imported(("pymongo",))[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    wide = {**os.environ, "COLUMNS": "300"}  # it folds its lines
    return subprocess.run(command, cwd=folder, env=wide, capture_output=True, text=True, timeout=120)


def test_the_architecture_contract_is_kept():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_door_opened_inside_a_function_would_be_noticed(tmp_path):
    for name in ("llm_engineering", "steps", "pipelines", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "llm_engineering/features/cleaning/clean.py").open("a") as file:
        file.write(
            "\n\ndef peek():\n    from llm_engineering.infrastructure.warehouse import sqlite\n    return sqlite\n"
        )
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "llm_engineering.features.cleaning.clean -> llm_engineering.infrastructure.warehouse.sqlite" in done.stdout
