"""A MongoDB to test against: the one at MONGO_URL, or a wire-protocol server of our own on loopback."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_mongo_server(folder: Path, port: int, *options: str) -> subprocess.Popen:
    """Returns when it answers. The caller ends it."""
    from pymongo import MongoClient

    command = [Path(sys.executable).with_name("secantusd-py"), "--port", str(port), "--storage-path", folder, *options]
    log = folder.with_suffix(".log")
    with log.open("ab") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        with MongoClient("127.0.0.1", port, serverSelectionTimeoutMS=60_000, directConnection=True) as client:
            client.admin.command("ping")
    except Exception as error:
        server.kill()
        server.wait()
        raise RuntimeError(f"the MongoDB wire server did not start: {log.read_text()[-2000:]}") from error
    return server


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory) -> Iterator[str]:
    """Its address. Tests fail, and are never skipped, when the server at MONGO_URL does not answer."""
    if given := os.environ.get("MONGO_URL"):
        yield given
        return
    port = free_port()
    server = start_mongo_server(tmp_path_factory.mktemp("mongo") / "data", port)
    yield f"mongodb://127.0.0.1:{port}/"
    server.terminate()
    server.wait(timeout=60)


@pytest.fixture
def mongo_url(mongo_server) -> Iterator[str]:
    """The address of a fresh database, dropped after the test."""
    from pymongo import MongoClient
    from pymongo.uri_parser import parse_uri

    name = f"twin_test_{uuid.uuid4().hex[:12]}"
    address, _, options = mongo_server.partition("?")
    scheme, _, rest = address.partition("://")
    options = "&".join(
        filter(None, (options, "" if "authSource" in options else f"authSource={_auth(parse_uri(mongo_server))}"))
    )
    yield f"{scheme}://{rest.partition('/')[0]}/{name}?{options}"
    with MongoClient(mongo_server) as client:
        client.drop_database(name)


def _auth(parsed: dict) -> str:
    return parsed["options"].get("authsource") or parsed["database"] or "admin"
