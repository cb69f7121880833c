"""A web site on loopback for tests: scripted pages under any number of host names, with counters.

def test_something(site):                      # the fixture in conftest.py; `new_site` makes more of them
    site.page("/a", "<p>hello</p>", etag=True)
    site.route("/b", lambda request: Answer(503, headers={"Retry-After": "1"}))
    site.wire("/c", lambda connection: connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n"))
    site.url("/a")                             # http://127.0.0.1:PORT/a
    site.url("/a", host="one.example")         # for a fetcher with resolve=site.resolve, allow_hosts=site.hosts
    site.hits("/a"), site.requests             # what was asked
"""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

HTML = "text/html; charset=utf-8"


class Request(NamedTuple):
    host: str  # without the port
    path: str  # with the query
    headers: dict[str, str]  # names in lower case
    at: float  # time.monotonic()
    body: bytes = b""


@dataclass
class Answer:
    """`body` as an iterable is sent piece by piece, without a Content-Length."""

    status: int = 200
    body: bytes | str | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.latency = 0.0  # seconds before each answer
        self.busy = self.busiest = 0  # requests that wait for their answer now, and at most
        self._routes: dict[tuple[str | None, str], Callable] = {}
        self._wires: dict[str, Callable[[socket.socket], object]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    # --- what it holds --------------------------------------------------------------------------------------

    def page(
        self,
        path: str,
        body: bytes | str = "",
        *,
        media: str | None = HTML,
        status: int = 200,
        headers: dict[str, str] | None = None,
        etag: bool = False,
        host: str | None = None,
    ) -> None:
        """A fixed answer; with `etag`, one that answers 304 to who knows it. Without `media`, no Content-Type."""
        data = body.encode() if isinstance(body, str) else body
        fixed = {**({"Content-Type": media} if media else {}), **(headers or {})}
        if etag:
            fixed["ETag"] = f'"{hashlib.blake2b(data, digest_size=8).hexdigest()}"'

        def answer(request: Request) -> Answer:
            if etag and request.headers.get("if-none-match") == fixed["ETag"]:
                return Answer(304, headers={"ETag": fixed["ETag"]})
            return Answer(status, data, fixed)

        self.route(path, answer, host=host)

    def route(self, path: str, answer: Callable[[Request], Answer], *, host: str | None = None) -> None:
        self._routes[host, path] = answer

    def redirect(self, path: str, location: str, *, status: int = 302, host: str | None = None) -> None:
        self.route(path, lambda request: Answer(status, headers={"Location": location}), host=host)

    def wire(self, path: str, talk: Callable[[socket.socket], object]) -> None:
        """Say anything at all, after the request was read; the connection is closed afterwards."""
        self._wires[path] = talk

    def remove(self, path: str, *, host: str | None = None) -> None:
        """From now on a 404."""
        del self._routes[host, path]

    # --- where it is ----------------------------------------------------------------------------------------

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def resolve(self, host: str, port: int) -> list[str]:
        """For `HttpFetcher(resolve=…)`: every name is here."""
        return ["127.0.0.1"]

    # --- what was asked -------------------------------------------------------------------------------------

    def hits(self, path: str | None = None, *, host: str | None = None) -> int:
        """How often a path (None: anything but robots.txt) was asked for."""
        with self._lock:
            return sum(
                (r.path == path if path else r.path != "/robots.txt") and host in (None, r.host) for r in self.requests
            )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- how it answers -------------------------------------------------------------------------------------

    def _find(self, request: Request) -> Callable[[Request], Answer]:
        plain = request.path.partition("?")[0]
        for key in ((request.host, request.path), (None, request.path), (request.host, plain), (None, plain)):
            if key in self._routes:
                return self._routes[key]
        return lambda request: Answer(404, "nothing here", {"Content-Type": "text/plain"})

    def _begin(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)

    def _end(self) -> None:
        with self._lock:
            self.busy -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        pass  # a client that hangs up early is what many of these tests are about


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(
                host=(self.headers.get("Host") or "").rpartition(":")[0] or (self.headers.get("Host") or ""),
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                at=time.monotonic(),
                body=self.rfile.read(length),
            )
            site._begin(request)
            if site.latency:
                time.sleep(site.latency)
            site._end()  # before a byte of the answer is sent: whoever has it may ask again at once
            self._answer(request)

        do_POST = do_HEAD = do_GET

        def _answer(self, request: Request) -> None:
            if talk := site._wires.get(request.path):
                self.close_connection = True
                talk(self.connection)
                return
            answer = site._find(request)(request)
            body = answer.body.encode() if isinstance(answer.body, str) else answer.body
            names = {name.lower() for name in answer.headers}
            head = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in answer.headers.items())]
            if isinstance(body, bytes):
                if "content-length" not in names and answer.status != 304:
                    head.append(f"Content-Length: {len(body)}")
            else:
                head.append("Connection: close")
                self.close_connection = True
            start = ("\r\n".join(head) + "\r\n\r\n").encode()
            if isinstance(body, bytes):
                self.wfile.write(start + (body if self.command != "HEAD" else b""))
                return
            self.wfile.write(start)
            for piece in body:
                self.wfile.write(piece)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Answering
