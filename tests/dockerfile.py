"""The Dockerfile without Docker: a target's lines are run in a folder, which stands for the image's file system.

COPY, RUN, ENV, ARG and WORKDIR do there what they do in an image. What changes the machine (packages of Debian, users,
owners) does nothing. pip finds the packages of the running Python installed, so nothing is fetched; the groups that a
target does not install cannot be imported.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {  # name -> what it runs; an image has them from pip, or from Debian
    "pip": "python -m pip",
    "poe": "python -m poethepoet",
    "zenml": "python -c 'from zenml.cli.cli import cli; cli()'",
    "apt-get": "true",
    "useradd": "true",
    "chown": "true",
}


class Line(NamedTuple):
    word: str
    rest: str


class Image(NamedTuple):
    """What a target leaves behind: its file system, and how its program is started."""

    root: Path
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    user: str


def stages(text: str) -> dict[str, list[Line]]:
    """Every target with all its lines, those of the stages it is made from first."""
    written = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    found: dict[str, list[Line]] = {}
    for line in filter(None, map(str.strip, written.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            parent, _, name = rest.split()
            current = found[name] = list(found.get(parent, []))
        else:
            current.append(Line(word, rest))
    return found


def build(target: str, root: Path, *, text: str | None = None, context: Path = ROOT) -> Image:
    """Raises CalledProcessError when a RUN line fails."""
    lines = stages(text or (context / "Dockerfile").read_text())[target]
    environment, here = _machine(root, lines), root
    image = Image(root, environment, [], [], "root")
    for word, rest in lines:
        match word:
            case "WORKDIR":
                here = root / rest.strip("/")
                here.mkdir(parents=True)
            case "COPY":
                *sources, target_folder = rest.split()
                _copy(sources, here / target_folder, context)
            case "ENV" | "ARG":
                environment |= {name: inside(value, root) for name, value in re.findall(r"(\w+)=(\S*)", rest)}
            case "RUN":
                command = ["sh", "-euc", inside(rest, root)]
                subprocess.run(command, cwd=here, env=environment, stdout=sys.stderr, check=True)
            case "ENTRYPOINT":
                image = image._replace(entrypoint=json.loads(rest))
            case "CMD":
                image = image._replace(command=json.loads(rest))
            case "USER":
                image = image._replace(user=rest)
    return image


def inside(text: str, root: Path) -> str:
    """With every absolute path moved below the root."""
    return re.sub(r"(?<![\w./:$-])/(?=[a-z])", f"{root}/", text)


def groups(lines: list[Line]) -> set[str]:
    """Those whose packages are installed, as pyproject.toml calls them."""
    read = {name for word, rest in lines if word == "RUN" for name in re.findall(r"requirements/(\w+)\.txt", rest)}
    return read - {"main"}


def _machine(root: Path, lines: list[Line]) -> dict[str, str]:
    """Python without a package of its own, the programs, and the environment a container starts with."""
    venv.create(root / "venv")
    [packages] = (root / "venv").glob("lib/*/site-packages")
    (packages / "missing.py").write_text(_MISSING.format(names=sorted(_not_installed(groups(lines)))))
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport missing\n")
    programs = root / "bin"
    programs.mkdir()
    for name, runs in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {runs} "$@"\n')
        (programs / name).chmod(0o755)
    home = root / "home" / "twin"
    home.mkdir(parents=True)
    kept = {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": f"{programs}:{root / 'venv' / 'bin'}:{os.defpath}",
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # that is how pip wants to be told not to isolate
        "PYTHONDONTWRITEBYTECODE": "1",
    }


_MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def _not_installed(installed: set[str]) -> Iterator[str]:
    """The modules of the groups that a target leaves out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for group, requirements in project["dependency-groups"].items():
        if group not in installed | {"dev"}:
            yield from (_module(line) for line in requirements if isinstance(line, str))


def _module(requirement: str) -> str:
    return Requirement(requirement).name.replace("-", "_")


def _copy(sources: list[str], target: Path, context: Path) -> None:
    """As the build context has them: what git knows, less what .dockerignore names."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    known = subprocess.run(listed, cwd=context, capture_output=True, text=True, check=True).stdout.split("\0")
    ignored = [line for line in (context / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
    for name in filter(None, known):
        if any(_matches(name, pattern) for pattern in ignored) or not (context / name).is_file():
            continue
        if sources == ["."] or name in sources:
            there = target / (name if sources == ["."] else Path(name).name)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(context / name, there)


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in name.split("/"))
    return name == pattern or name.startswith(f"{pattern}/")
