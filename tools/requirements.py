"""requirements/*.txt from poetry.lock: what the images install. Written by `poe constraints`.

Each file names its packages with the hashes of their wheels for Linux, so that pip takes these bytes or none
(--require-hashes), asks for nothing more (--no-deps) and runs no package's own build (--only-binary). What torch needs
for NVIDIA cards is in a file of its own; torch for CPUs is on an index the lock does not know, so its file
(requirements/torch-cpu.txt) is written by hand.
"""

import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

HEADER = "# From poetry.lock by `poe constraints`; do not edit. A test fails when the two differ."
PYTHONS = ("3.11", "3.12")
MACHINES = ("x86_64", "aarch64")
BUILD = "poetry-core"  # installs the project itself, from what is there
CUDA = ("nvidia-", "cuda-", "torch", "triton")  # names begin so
GROUPS = ("main", "ml", "ui")  # in the order in which images install them: what is in one is not in a later one
FILES = (*GROUPS, "torch-cuda")

LINUX = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    for python, machine in product(PYTHONS, MACHINES)
]


def render(lock: Path) -> dict[str, str]:
    """The text of every file, by its name. Raises ValueError for a package that has no wheel an image could take."""
    lines: dict[str, list[str]] = {name: [] for name in FILES}
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        for name in _files_of(package):
            lines[name].append(_requirement(package, "ml" if name == "torch-cuda" else name))
    return {name: "\n".join([HEADER, *sorted(some)]) + "\n" for name, some in lines.items()}


def _files_of(package: dict[str, Any]) -> Iterator[str]:
    """The one file that a package is in, or none."""
    if package["name"] == BUILD:
        yield GROUPS[0]
        return
    for group in GROUPS:
        if group in package["groups"] and any(_applies(package, group)):
            yield "torch-cuda" if group == "ml" and package["name"].startswith(CUDA) else group
            return


def _marker(package: dict[str, Any], group: str) -> str | None:
    """The lock has one for all groups, or one for each that needs it."""
    marker = package.get("markers")
    return marker.get(group) if isinstance(marker, dict) else marker


def _applies(package: dict[str, Any], group: str) -> list[bool]:
    """Whether it is installed, on each Linux."""
    marker = _marker(package, group)
    return [marker is None or Marker(marker).evaluate(here) for here in LINUX]


def _requirement(package: dict[str, Any], group: str) -> str:
    line = f"{package['name']}=={package['version']}"
    if not all(_applies(package, group)):
        line += f" ; {_marker(package, group)}"
    hashes = sorted(file["hash"] for file in package["files"] if _fits(file["file"]))
    if not hashes:
        raise ValueError(f"{line} has no wheel for Linux and Python {' or '.join(PYTHONS)}: an image cannot install it")
    return " \\\n".join([line, *(f"    --hash={one}" for one in hashes)])


def _fits(file: str) -> bool:
    """Whether it is a wheel that an image could take."""
    if not file.endswith(".whl"):
        return False
    *_, tags = parse_wheel_filename(file)
    return any(_python_fits(tag.interpreter, tag.abi) and _platform_fits(tag.platform) for tag in tags)


def _python_fits(interpreter: str, abi: str) -> bool:
    exact = {f"cp{python.replace('.', '')}" for python in PYTHONS}
    stable = abi == "abi3" and interpreter.startswith("cp3") and int(interpreter[3:]) <= int(PYTHONS[-1][2:])
    return interpreter.startswith("py3") or (interpreter in exact and abi in {*exact, "abi3", "none"}) or stable


def _platform_fits(platform: str) -> bool:
    return platform == "any" or (platform.startswith(("linux", "manylinux")) and platform.endswith(MACHINES))
