"""What is shipped for servers, as far as a machine without Docker can tell; CI builds and runs the real images."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dockerfile import ROOT, Line, groups, stages
from pymongo.uri_parser import parse_uri

from llm_engineering.settings import PREFIX, Settings

STAGES = stages((ROOT / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
STORES = {name: service for name, service in COMPOSE["services"].items() if "build" not in service}
LEAKING_MONGO = (8, 0, 20)  # and all before


def last(word: str, lines: list[Line]) -> str:
    return next(line.rest for line in reversed(lines) if line.word == word)


def environment(lines: list[Line]) -> dict[str, str]:
    return dict(pair for line in lines if line.word == "ENV" for pair in re.findall(r"(\w+)=(\S+)", line.rest))


@pytest.fixture
def docker(tmp_path, monkeypatch) -> Path:
    """A folder of programs with a `docker`, and the environment that .ci/containers runs in."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/docker_stand_in.py "$@"\n')
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("STAND_IN_PORT", port)
    monkeypatch.setenv("API", f"http://127.0.0.1:{port}")
    return program


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="needs jq and curl, as CI has them")
def test_the_images_install_and_the_compose_file_works_from_end_to_end(docker):
    """The lines of every target run in empty folders, and their containers crawl, index, remember and serve."""
    done = subprocess.run([ROOT / ".ci" / "containers"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    assert "crawled, indexed and served" in done.stdout


@pytest.mark.parametrize(("target", "installed"), [("crawl", set()), ("features", {"ml"}), ("serve", {"ml", "ui"})])
def test_an_image_carries_what_its_role_runs_and_no_more(target, installed):
    lines = STAGES[target]
    assert groups(lines) == installed
    assert any("chromium" in line.rest for line in lines if line.word == "RUN") is (target == "crawl")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_target_that_runs_as_a_number(service):
    user = last("USER", STAGES[SERVICES[service]["build"]["target"]])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_container_keeps_lies_on_a_volume(service):
    given = environment(STAGES[SERVICES[service]["build"]["target"]]) | SERVICES[service]["environment"]
    volumes = dict(volume.split(":")[1::-1] for volume in SERVICES[service]["volumes"])
    for name in ("TWIN_HOME", "ZENML_CONFIG_PATH", "HF_HOME"):
        [kept_on] = [source for target, source in volumes.items() if Path(given[name]).is_relative_to(target)]
        assert kept_on in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_the_env_file_is_passed_in_where_there_is_one(service):
    assert SERVICES[service]["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_exists(service):
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in SERVICES[service]["environment"] if name.startswith(PREFIX)} <= known


def test_every_port_is_on_loopback():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_stores_are_fixed_versions_and_mongo_is_none_that_leaks():
    versions = {name: re.findall(r":v?(\d+)\.(\d+)\.(\d+)[\w-]*@", store["image"]) for name, store in STORES.items()}
    assert {name: len(found) for name, found in versions.items()} == {"mongo": 1, "qdrant": 1}
    assert tuple(map(int, versions["mongo"][0])) > LEAKING_MONGO


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_every_container_has_only_the_rights_it_needs_and_limits(service):
    given = COMPOSE["services"][service]
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert given["read_only"] is True
    assert any(place.startswith("/tmp:size=") for place in given["tmpfs"])
    assert {"mem_limit", "pids_limit", "cpus"} <= given.keys()
    user = given.get("user") or last("USER", STAGES[given["build"]["target"]])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


PASSWORDS = {"MONGO_PASSWORD", "QDRANT_API_KEY"}


def test_no_password_is_written_here_and_nothing_starts_without():
    """Each is asked for with `:?`, with which compose stops and says what is missing; none has a default."""
    asked = re.findall(r"\$\{(\w+)(.*?)\}", (ROOT / "docker-compose.yml").read_text())
    assert {name for name, _ in asked} == PASSWORDS
    assert all(rest.startswith(":?") for _, rest in asked)


def test_both_stores_ask_for_a_password_and_the_platform_gives_it():
    mongo, qdrant = STORES["mongo"], STORES["qdrant"]
    assert mongo["environment"]["MONGO_INITDB_ROOT_PASSWORD"].startswith("${MONGO_PASSWORD:?")
    assert any("--keyFile" in word for word in mongo["command"])  # without it a replica set asks nobody
    assert qdrant["environment"]["QDRANT__SERVICE__API_KEY"].startswith("${QDRANT_API_KEY:?")
    user = mongo["environment"]["MONGO_INITDB_ROOT_USERNAME"]
    for service in SERVICES.values():
        password = re.sub(r"\$\{\w+:\?.*?\}", "secret", service["environment"]["TWIN_WAREHOUSE"])
        parsed = parse_uri(password)
        assert (parsed["username"], parsed["password"], parsed["database"]) == (user, "secret", "llm_twin")
        assert parsed["options"]["authSource"] == "admin"
        assert service["environment"]["TWIN_QDRANT_API_KEY"].startswith("${QDRANT_API_KEY:?")


def test_no_password_is_in_a_command_that_the_machine_lists():
    """Arguments are seen by everybody who may list processes."""
    for service in COMPOSE["services"].values():
        words = [*service.get("command", []), *service["healthcheck"]["test"]] if "healthcheck" in service else []
        assert not [word for word in words if "${" in word]


def test_ci_builds_every_target_and_starts_the_compose_file():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]
    typed = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/containers" in typed
    assert f"docker compose build {' '.join(SERVICES)}\n" in (ROOT / ".ci" / "containers").read_text()


LINTERS = {
    "the Dockerfile": ("hadolint", "Dockerfile"),
    "the compose file": ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
    "the workflow": ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yaml"),
    "what renews the pins": ("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"),
}


@pytest.mark.parametrize("what", LINTERS)
def test_the_linters_find_nothing_in(what):
    program, *arguments = LINTERS[what]
    installed = Path(sys.executable).with_name(program)
    if not installed.exists():
        pytest.skip(f"{program} is not installed: it has no wheel for every machine")
    done = subprocess.run([installed, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
