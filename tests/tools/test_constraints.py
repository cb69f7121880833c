import tomllib
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.constraints import render

ROOT = Path(__file__).resolve().parents[2]


def test_constraints_are_those_of_the_lock():
    assert (ROOT / "constraints.txt").read_text() == render(ROOT / "poetry.lock"), "run `poe constraints`"


def test_the_lock_answers_every_dependency_of_the_project():
    """A dependency edited without `poetry lock` would leave pip and Poetry with different packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    wanted = project["project"]["dependencies"] + [line for group in groups for line in group if isinstance(line, str)]
    locked: dict[str, list[str]] = {}
    for package in tomllib.loads((ROOT / "poetry.lock").read_text())["package"]:
        locked.setdefault(canonicalize_name(package["name"]), []).append(package["version"])
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert any(requirement.specifier.contains(version, prereleases=True) for version in versions), requirement


def test_every_python_we_support_gets_one_version_of_each_package():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    for python in ("3.11", "3.12"):
        here = {"python_version": python, "python_full_version": f"{python}.0"}
        seen: dict[str, str] = {}
        for requirement in map(Requirement, lines):
            if requirement.marker is None or Marker(str(requirement.marker)).evaluate(here):
                assert requirement.name not in seen, f"{requirement} and {seen[requirement.name]} on Python {python}"
                seen[requirement.name] = str(requirement.specifier)
