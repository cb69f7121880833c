"""`docker compose` as far as .ci/containers types it, where there is no Docker: images are folders (dockerfile.py).

The stores are the embedded ones, the embedder needs no model, and the server listens on loopback, where it wants keys
all the same. A command that writes beside the volumes ends with exit code 3: in a container that would be lost.
"""

import json
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil
import yaml
from dockerfile import ROOT, Image, build, inside
from waiting import until

STATE = Path(os.environ["STAND_IN_STATE"])
PORT = os.environ["STAND_IN_PORT"]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ELSEWHERE = {"TWIN_WAREHOUSE", "TWIN_VECTORS"}  # stores of other containers
WROTE_BESIDE = 3


def make(service: str) -> None:
    image = build(SERVICES[service]["build"]["target"], STATE / service)
    (STATE / f"{service}.json").write_text(json.dumps(image._asdict(), default=str))


def made(service: str) -> Image:
    image = Image(**json.loads((STATE / f"{service}.json").read_text()))
    return image._replace(root=Path(image.root))


def environment(service: str, image: Image) -> dict[str, str]:
    given = {
        name: inside(value, image.root)
        for name, value in SERVICES[service]["environment"].items()
        if name not in ELSEWHERE and "${" not in value
    }
    here = {"TWIN_EMBEDDER": "hashing:256", "TWIN_API_HOST": "127.0.0.1", "TWIN_API_PORT": PORT}
    return image.environment | given | here


def mount(image: Image, volumes: Sequence[str]) -> None:
    """Named volumes and folders of this machine, as links; what an image has in their place is gone."""
    for volume in volumes:
        source, target, *_ = volume.split(":")
        there = STATE / "volumes" / source if source.isidentifier() else ROOT / source
        there.mkdir(parents=True, exist_ok=True)
        place = image.root / target.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(there)


def files(image: Image) -> set[Path]:
    """Those of its own; links to volumes are not followed."""
    return {Path(folder) / name for folder, _, names in os.walk(image.root) for name in names}


def run(service: str, words: Sequence[str], *, entrypoint: str | None) -> int:
    image = made(service)
    mount(image, SERVICES[service]["volumes"])
    program = [entrypoint] if entrypoint else image.entrypoint
    words = [inside(word, image.root) for word in words] or ([] if entrypoint else image.command)
    before = files(image)
    code = start([*program, *words], service, image).wait()
    if beside := sorted(files(image) - before):
        print(f"written beside the volumes: {', '.join(map(str, beside))}", file=sys.stderr)
        return WROTE_BESIDE
    return code


def start(command: Sequence[str], service: str, image: Image, log: IO[str] | None = None) -> subprocess.Popen[bytes]:
    here = image.root / "app"
    return subprocess.Popen(command, cwd=here, env=environment(service, image), stdout=log, stderr=log)


def up(service: str) -> int:
    """Until it is healthy."""
    image = made(service)
    mount(image, SERVICES[service]["volumes"])
    with (STATE / f"{service}.log").open("w") as log:
        process = start([*image.entrypoint, *image.command, "--require-keys"], service, image, log)
    (STATE / f"{service}.pid").write_text(str(process.pid))
    _, *check = SERVICES[service]["healthcheck"]["test"]
    check = [word.replace(":8000/", f":{PORT}/") for word in check]
    until(lambda: subprocess.run(check, env=image.environment, stderr=subprocess.DEVNULL).returncode == 0)
    return 0


def down() -> int:
    """The end of every server, waited for."""
    for file in STATE.glob("*.pid"):
        server = psutil.Process(int(file.read_text()))
        server.terminate()
        server.wait()
    return 0


def main() -> int:
    parser = ArgumentParser()
    parser.add_argument("compose", choices=["compose"])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("services", nargs="+")
    running, starting = commands.add_parser("run"), commands.add_parser("up")
    running.add_argument("--entrypoint")
    for flag in ("--rm", "-T"):
        running.add_argument(flag, action="store_true", required=True)
    for flag in ("--detach", "--wait"):
        starting.add_argument(flag, action="store_true", required=True)
    for command in (running, starting):
        command.add_argument("service", choices=SERVICES)
    running.add_argument("words", nargs="...")
    commands.add_parser("logs")
    commands.add_parser("down")
    typed, _ = parser.parse_known_args()
    match typed.command:
        case "build":
            for service in typed.services:
                make(service)
        case "run":
            return run(typed.service, typed.words, entrypoint=typed.entrypoint)
        case "up":
            return up(typed.service)
        case "down":
            return down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
