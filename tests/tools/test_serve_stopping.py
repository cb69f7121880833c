"""`poe serve` told to stop, once and twice, while its clients and its processes do what they like."""

import json
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from loopback import Answer
from passages import fill, passage
from serve_process import started, when_ready
from waiting import SECONDS, until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.serving.api.limits import Limits

pytestmark = pytest.mark.slow
QUESTION = json.dumps({"question": "What do flour, water and salt make?"}).encode()
HEAD = b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
AT_ONCE = 15  # seconds, on a machine that is busy with other things; in order it would be more than DRAIN
DRAIN = Limits().drain_seconds


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """Where the server makes its temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_API_PROCESSES", "2")
    with open_platform() as platform:
        chunk = passage(0, text="Flour, water and salt make a very good bread.", title="Baking")
        [vector] = platform.embedder.embed([chunk.text])
        fill(platform.vectors, [EmbeddedChunk(chunk, vector)], spec=IndexSpec(embedding=platform.embedder.spec))
    return folder


class Served:
    """A server whose processes are all there, and what its clients do to it."""

    def __init__(self, process: subprocess.Popen, address: str, clients: ExitStack) -> None:
        self.process, self.address, self._clients = process, address, clients
        self._server = psutil.Process(process.pid)
        when_ready(address)
        self.children = until(self._all_children)

    def _all_children(self) -> list[psutil.Process]:
        children = self._server.children(recursive=True)
        return children if sum(map(_works, children)) == 2 and all(self._answers() for _ in range(4)) else []

    def _answers(self) -> bool:
        return httpx.post(f"{self.address}/rag", content=QUESTION, headers={"Content-Type": "application/json"},
                          timeout=SECONDS).status_code == 200  # fmt: skip

    def connect(self, sent: bytes) -> socket.socket:
        """A client that says this and no more."""
        port = urlsplit(self.address).port
        assert port is not None
        client = self._clients.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
        client.sendall(sent)
        return client

    def freeze(self) -> None:
        """Its processes do nothing any more, as in a library's code that never returns."""
        for one in filter(_works, self.children):
            one.send_signal(signal.SIGSTOP)

    def left(self) -> list[psutil.Process]:
        return psutil.wait_procs(self.children, timeout=SECONDS)[1]

    def ends_within(self, seconds: float, *, temporary: Path) -> int:
        """Its exit code; nothing of it is left."""
        code = self.process.wait(seconds)
        assert not self.left()
        assert not list(temporary.iterdir())
        return code


def _works(process: psutil.Process) -> bool:
    """And is not multiprocessing's own helper, which ends when its pipe does."""
    return "spawn_main" in " ".join(process.cmdline())


@pytest.fixture
def served():
    with ExitStack() as clients, started() as (process, address):
        it = Served(process, address, clients)
        yield it
        for one in it.children:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def test_an_idle_server_ends_at_once_and_nothing_of_it_is_left(served, temporary):
    served.connect(b"")
    served.connect(b"GET /health HTTP/1.1\r\n")
    served.connect(HEAD % 1000 + QUESTION)
    httpx.get(served.address)  # builds the chat page
    served.process.send_signal(signal.SIGTERM)
    assert served.ends_within(AT_ONCE, temporary=temporary) == 0


def test_a_busy_one_ends_within_its_time_whatever_its_processes_do(served, temporary):
    served.freeze()
    clients = [served.connect(HEAD % len(QUESTION) + QUESTION) for _ in range(4)]
    until(lambda: "twin_questions_working 2.0" in httpx.get(f"{served.address}/metrics", timeout=SECONDS).text)
    served.process.send_signal(signal.SIGTERM)
    served.ends_within(DRAIN + 5, temporary=temporary)
    for one in clients:
        told = one.recv(100_000)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"stopping"' in told


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_told_a_second_time_it_ends_at_once(served, temporary, second):
    served.freeze()
    for _ in range(4):
        served.connect(HEAD % len(QUESTION) + QUESTION)
    until(lambda: "twin_questions_working 2.0" in httpx.get(f"{served.address}/metrics", timeout=SECONDS).text)
    served.process.send_signal(signal.SIGTERM)
    until(lambda: not _listens(served.address))
    served.process.send_signal(second)
    assert served.ends_within(AT_ONCE, temporary=temporary) == 128 + second


def _listens(address: str) -> bool:
    try:
        httpx.get(f"{address}/health", timeout=SECONDS)
    except httpx.ConnectError:
        return False
    return True


def test_killed_it_leaves_no_process_behind_also_where_one_is_stuck(served, temporary):
    served.freeze()
    served.process.kill()
    served.process.wait(AT_ONCE)
    assert not served.left()


def test_a_model_that_says_nothing_more_does_not_keep_it(site, monkeypatch, temporary):
    asked = []

    def says_nothing(request) -> Answer:
        asked.append(request)
        time.sleep(DRAIN * 4)
        return Answer()

    site.route("/v1/models", lambda request: Answer(200, '{"object": "list", "data": [{"id": "x"}]}',
                                                    {"Content-Type": "application/json"}))  # fmt: skip
    site.route("/v1/chat/completions", says_nothing)
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:x")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", site.url("/v1"))
    with ExitStack() as clients, started() as (process, address):
        when_ready(address)
        port = urlsplit(address).port
        client = clients.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
        client.sendall(HEAD % len(QUESTION) + QUESTION)
        until(lambda: asked)
        process.send_signal(signal.SIGTERM)
        process.wait(DRAIN + 5)
    assert not list(temporary.iterdir())
