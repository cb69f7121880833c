"""What a client may do with its connections before, beside and instead of a request."""

import json
import socket
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from api_service import WAIT, ScriptedService, serving
from waiting import until

from llm_engineering.serving import connections
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.connections import BoundedConnection, Connections, _bounded_address

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def server(*, total: int = 1000, per_address: int = 0, body_bytes: int = 1_000_000):
    """Its port, and its connections."""
    bounds = Connections(total=total, per_address=per_address, body_bytes=body_bytes)
    app = create_app(ScriptedService(), hosts={"127.0.0.1"})
    with serving(app, http=partial(BoundedConnection, connections=bounds), ws="none") as address:
        yield int(address.rpartition(":")[2]), bounds


@pytest.fixture
def port():
    with server() as (it, _):
        yield it


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def answer_to(port: int, sent: bytes) -> tuple[int, dict, dict]:
    """Status, headers and JSON of the first answer."""
    with closing(connected(port)) as one:
        one.sendall(sent)
        return read_answer(one)


def read_answer(one: socket.socket) -> tuple[int, dict, dict]:
    with one.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = {}
        while (line := file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, json.loads(file.read(int(headers["content-length"])))


def healthy(port: int) -> bool:
    return answer_to(port, HEALTH)[0] == 200


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n"])
def test_a_connection_whose_request_does_not_come_is_closed(port, begun):
    with closing(connected(port)) as one:
        one.sendall(begun)
        assert read_answer(one)[0] == 408
        assert one.recv(1) == b""


@pytest.mark.usefixtures("hasty")
def test_headers_that_drip_are_no_request_that_comes(port):
    with closing(connected(port)) as one:
        one.settimeout(0.05)
        answered = b""
        one.sendall(HEALTH[:-4])
        while not answered:
            one.sendall(b"\r\nX-A: b")
            try:
                answered = one.recv(1000)
            except TimeoutError:
                continue
        assert b"408" in answered


@pytest.mark.usefixtures("hasty")
def test_so_is_the_second_request_of_a_connection(port):
    with closing(connected(port)) as one:
        one.sendall(HEALTH)
        assert read_answer(one)[0] == 200
        one.sendall(HEALTH[:20])
        assert read_answer(one)[0] == 408


@pytest.mark.usefixtures("hasty")
def test_and_a_body_that_drips_after_its_answer(port):
    with closing(connected(port)) as one:
        one.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_answer(one)[0] == 200
        one.settimeout(0.05)
        end = None
        while end != b"":
            try:
                one.sendall(b"x")
                end = one.recv(1000) and None
                end = b"" if end is None else end
            except TimeoutError:
                continue
            except OSError:
                break


def test_an_answer_that_is_not_taken_is_not_kept(monkeypatch):
    """Closing a connection waits until its client has taken what was written."""
    monkeypatch.setattr(connections, "TAKE_SECONDS", 0.2)

    async def app(scope, receive, send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 30_000_000})

    bounds = Connections(total=10, per_address=0, body_bytes=1)
    with (
        serving(app, http=partial(BoundedConnection, connections=bounds), ws="none") as address,
        closing(connected(int(address.rpartition(":")[2]))) as one,
    ):
        one.sendall(HEALTH)
        until(lambda: bounds._open)
        until(lambda: not bounds._open)


# --- number --------------------------------------------------------------------------------------------------------


def test_connections_without_a_request_make_room_for_one_that_has_one():
    with server(total=20) as (port, bounds), ExitStack() as opened:
        for _ in range(60):
            one = opened.enter_context(closing(connected(port)))
            one.sendall(b"GET /health HTTP/1.1\r\n")
        until(lambda: len(bounds._open) == 20)
        assert healthy(port)


def test_where_all_are_answered_the_next_is_told_to_come_back():
    with server(total=2) as (port, bounds), ExitStack() as opened:
        for _ in range(2):
            one = opened.enter_context(closing(connected(port)))
            one.sendall(
                b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            )
        until(lambda: len(bounds._open) == 2 and not any(one.waits_for_request for one in bounds._open))
        status, headers, body = answer_to(port, b"")
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "server_busy", "5")


class Peer:
    """A connection as far as the bounds look at it."""

    def __init__(self, waits: bool) -> None:
        self.waits_for_request, self.transport, self.aborted = waits, self, False

    def abort(self) -> None:
        self.aborted = True


def peer(*, waits: bool = True) -> Any:
    return Peer(waits)


def test_one_address_has_its_bound_and_leaves_the_others_theirs():
    bounds = Connections(total=100, per_address=2, body_bytes=1)
    idle, busy, another = peer(), peer(waits=False), peer(waits=False)
    assert bounds.add(idle, "203.0.113.7")
    assert bounds.add(busy, "203.0.113.7")
    assert bounds.add(another, "203.0.113.7"), "the idle one makes room"
    assert idle.aborted
    assert not bounds.add(peer(), "203.0.113.7")
    assert not bounds.add(peer(), "::ffff:203.0.113.7"), "the same, by its other name"
    assert bounds.add(peer(), "203.0.113.8")
    bounds.remove(busy)
    assert bounds.add(peer(), "203.0.113.7")


def test_a_network_that_one_machine_may_have_whole_counts_as_one_address():
    assert _bounded_address("2001:db8::1") == _bounded_address("2001:db8:0:0:ffff::2")
    assert _bounded_address("2001:db8::1") != _bounded_address("2001:db8:0:1::1")
    assert _bounded_address("127.0.0.1") is _bounded_address("::1") is _bounded_address(None) is None


# --- form ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://evil.example/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://127.0.0.1@evil.example/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET https://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GE T /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"EXPLODE /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n folded\r\n\r\n",
        b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
        b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_of_ours_is_refused_in_the_apis_shape(port, sent):
    status, headers, body = answer_to(port, sent)
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert body["error"]["message"]
    assert healthy(port)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    ],
)
def test_what_is_only_rare_is_answered(port, sent):
    assert answer_to(port, sent)[0] == 200


@pytest.mark.parametrize(
    "bomb",
    [
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 90) for number in range(1000)) + b"\r\n",
        b"X-A: " + b"a" * 900_000,
        b"X-A: " + b"a" * 66_000 + b"\r\n\r\n",
    ],
    ids=["many", "endless", "long"],
)
def test_headers_are_bounded(port, bomb):
    assert answer_to(port, HEALTH[:-2] + bomb)[0] == 431
    assert healthy(port)


def test_an_address_is_bounded_too(port):
    assert answer_to(port, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0] == 431


@pytest.mark.parametrize("marks", [b"1;" + b"a" * 500_000, b"0\r\n" + b"X-A: b\r\n" * 100_000])
def test_so_is_what_stands_around_a_body(port, marks):
    head = (
        b"POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with closing(connected(port)) as one:
        try:
            one.sendall(head + marks)
            while one.recv(1000):
                pass
        except ConnectionError:
            pass
    assert healthy(port)


def test_a_body_in_the_smallest_chunks_is_read():
    body = json.dumps({"question": "What makes bread?"}).encode()
    with server() as (port, _):
        pieces = (bytes([one]) for one in body)
        headers = {"Content-Type": "application/json"}
        assert httpx.post(f"http://127.0.0.1:{port}/rag", content=pieces, headers=headers).status_code == 200


def test_a_web_socket_is_refused_by_whatever_server_runs_the_app():
    import websockets.sync.client as client
    from websockets.exceptions import InvalidStatus

    with serving(create_app(ScriptedService())) as address, pytest.raises(InvalidStatus) as refused:
        client.connect(address.replace("http", "ws"))
    assert refused.value.response.status_code == 403
