"""What is fetched to build and to check the product is named by what it is, not by a name that can be moved."""

import re
import tomllib

import pytest
import yaml
from conftest import ROOT
from dockerfile import groups, stages
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.requirements import LINUX, render

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
REQUIREMENTS = ROOT / "requirements"
LOCK = ROOT / "poetry.lock"
WAITING: set[str] = set()  # images whose digest could not be looked up yet; each leaves this set by being pinned

IMAGE = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")
ACTION = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def images() -> list[str]:
    """Every one that is pulled, as it is written; the stages of the Dockerfile itself are none."""
    built = [line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")]
    return [name for name in built if name not in stages(DOCKERFILE)] + re.findall(r"(?m)^\s+image: (\S+)", COMPOSE)


def test_every_image_is_named_by_its_version_and_its_digest():
    assert len(images()) == 3
    assert {image for image in images() if not IMAGE.fullmatch(image)} == WAITING


def test_every_action_is_a_commit_with_its_version_beside_it():
    used = [line.partition("uses:")[2].strip() for path in WORKFLOWS for line in path.read_text().splitlines()]
    used = [action for action in used if action]
    assert len(used) > 5
    assert [action for action in used if not ACTION.fullmatch(action)] == []


def test_one_version_of_an_action_is_one_commit():
    named = {tuple(found.split("@")) for path in WORKFLOWS for found in ACTION.findall(path.read_text())}
    assert len(named) == len({action for action, _ in named})


def test_no_action_keeps_the_token_of_the_checkout():
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False


def test_what_is_pinned_is_renewed():
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "docker", "docker-compose"}


@pytest.mark.parametrize("name", render(LOCK))
def test_requirements_are_those_of_the_lock(name):
    assert (REQUIREMENTS / f"{name}.txt").read_text() == render(LOCK)[name], "run `poe constraints`"


def test_a_package_without_a_wheel_is_refused_by_name(tmp_path):
    """It would have to be built, which runs its own code."""
    lock = tmp_path / "poetry.lock"
    lock.write_text(
        '[[package]]\nname = "odd"\nversion = "1"\ngroups = ["main"]\n'
        'files = [{file = "odd-1.tar.gz", hash = "sha256:0"}, {file = "odd-1-py3-none-win32.whl", hash = "sha256:1"}]'
    )
    with pytest.raises(ValueError, match="odd==1 has no wheel for Linux"):
        render(lock)


def test_torch_for_processors_is_the_version_of_the_lock_from_its_own_index_alone():
    written = (REQUIREMENTS / "torch-cpu.txt").read_text()
    [locked] = [one["version"] for one in packages() if one["name"] == "torch"]
    assert re.findall(r"(?m)^(\w+)==(\S+)", written) == [("torch", locked)]
    assert re.findall(r"(?m)^--\S+ \S+", written) == ["--index-url https://download.pytorch.org/whl/cpu"]


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.name)
def test_every_requirement_has_a_hash(path):
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--index-url "))]
    assert lines
    assert [line for line in lines if not re.search(r"^\S+==[^#]+( --hash=sha256:[0-9a-f]{64})+$", line)] == []


def packages() -> list[dict]:
    return tomllib.loads(LOCK.read_text())["package"]


@pytest.mark.parametrize("target", ["crawl", "features", "serve"])
def test_an_image_lists_all_that_its_packages_need(target):
    """pip asks for nothing more (--no-deps): what is missing would be missed when it is imported."""
    files = {"main"} | groups(stages(DOCKERFILE)[target])
    files |= {"torch-cuda"} if "ml" in files else set()
    listed = {
        name for file in files for name in re.findall(r"(?m)^([\w-]+)==", (REQUIREMENTS / f"{file}.txt").read_text())
    }
    assert len(listed) > 150
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *(line for name in files & {"ml", "ui"} for line in project["dependency-groups"][name]),
    ]
    assert {canonicalize_name(Requirement(line).name) for line in asked} <= listed
    for package in packages():
        if package["name"] in listed:
            wanted = {canonicalize_name(name) for name, some in package.get("dependencies", {}).items() if needed(some)}
            assert wanted <= listed, package["name"]


def needed(wanted: str | dict | list) -> bool:
    """Whether it is, on some Linux, without an extra being asked for."""
    match wanted:
        case list():
            return any(map(needed, wanted))
        case str():
            return True
    marker = wanted.get("markers")
    return not wanted.get("optional") and (
        marker is None or any(Marker(marker).evaluate({**here, "extra": ""}) for here in LINUX)
    )


def test_pip_takes_listed_wheels_only():
    """Every line that installs asks for hashes, but for the project itself, which is built from what is there."""
    lines = [line.rest for line in stages(DOCKERFILE)["serve"] if line.word == "RUN" and "pip install" in line.rest]
    asked = [one for line in lines for one in line.split("&&") if "pip install" in one]
    assert [one.strip() for one in asked if "--require-hashes" not in one] == [
        "pip install --no-build-isolation --editable ."
    ]
    given = " ".join(line.rest for line in stages(DOCKERFILE)["serve"] if line.word == "ENV")
    assert "PIP_NO_DEPS=1" in given
    assert "PIP_ONLY_BINARY=:all:" in given


def test_the_bill_of_materials_reads_what_each_image_installs():
    recipe = (ROOT / "Makefile").read_text().partition("\nsbom:")[2].partition("\n\n")[0]
    for target in ("crawl", "features", "serve"):
        [line] = [line for line in recipe.splitlines() if f"dist/sbom/{target}.cdx.json" in line]
        read = set(re.findall(r"requirements/([\w-]+)\.txt", line))
        assert read == {"main"} | groups(stages(DOCKERFILE)[target])
    assert "requirements/torch-cpu.txt" in recipe
