"""A forward proxy on loopback that lets a browser reach only what the guard allows, whatever its pages ask for."""

import http.client
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import cast
from urllib.parse import SplitResult, urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard, checked_url, host_and_port

IDLE = 30.0  # seconds without a byte, after which a connection is given up
PIECE = 1 << 16  # bytes passed on at a time
HOP_BY_HOP = ("connection", "keep-alive", "upgrade", "te")  # and every Proxy-*: they end here


class GuardedProxy:
    """Listens until closed. The browser gives it names, so it is the proxy that looks them up, once, and connects to
    an address that was checked. `refusals` receives why a host was not reached at a port."""

    def __init__(self, guard: SsrfGuard, refusals: dict[tuple[str, int], FetchError]) -> None:
        self._guard, self._refusals = guard, refusals
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.connect = self._connect
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="browser-proxy", daemon=True).start()

    def _connect(self, host: str, port: int) -> socket.socket:
        try:
            [address, *_others] = self._guard.addresses(host, port)
            return socket.create_connection((address, port), timeout=IDLE)
        except FetchError as error:
            self._refusals[host, port] = error
            raise
        except OSError as error:
            self._refusals[host, port] = FetchError(Reason.CONNECT, f"no connection to {host}: {error}", retry=True)
            raise

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    connect: Callable[[str, int], socket.socket]


class _Connection(socketserver.StreamRequestHandler):
    """One connection of the browser: a tunnel, or one plain request."""

    timeout = IDLE

    def _connect(self, host: str, port: int) -> socket.socket:
        return cast("_Server", self.server).connect(host, port)

    def handle(self) -> None:
        try:
            method, target, version = self.rfile.readline(65536).decode("latin-1").split()
            headers = http.client.parse_headers(self.rfile)
        except (ValueError, http.client.HTTPException, OSError):
            return
        try:
            if method == "CONNECT":
                parts = urlsplit(f"//{target}")
                with self._connect(parts.hostname or "", parts.port or 443) as upstream:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._tunnel(upstream)
            else:
                parts = checked_url(target, ("http",))
                with self._connect(*host_and_port(parts)) as upstream:
                    upstream.sendall(_head(method, parts, version, headers))
                    self._send_body(upstream, int(headers.get("Content-Length") or 0))
                    _copy(upstream, self.connection)
        except FetchError as error:
            self._refuse("403 Forbidden", error.detail)
        except (OSError, ValueError) as error:
            self._refuse("502 Bad Gateway", str(error))

    def _send_body(self, upstream: socket.socket, length: int) -> None:
        """As it comes: a page may send more than fits into memory."""
        while length > 0 and (data := self.rfile.read1(min(length, PIECE))):
            upstream.sendall(data)
            length -= len(data)

    def _tunnel(self, upstream: socket.socket) -> None:
        back = threading.Thread(target=_copy, args=(upstream, self.connection), daemon=True)
        back.start()
        _copy(self.connection, upstream)
        back.join(IDLE)

    def _refuse(self, status: str, why: str) -> None:
        body = why.encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            self.wfile.write(head.encode() + body)
        except OSError:
            return  # the browser has gone, or the tunnel was open already


def _head(method: str, parts: SplitResult, version: str, headers: http.client.HTTPMessage) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [f"{name}: {value}" for name, value in headers.items() if not _is_hop_by_hop(name)]
    return ("\r\n".join([f"{method} {path} {version}", *kept, "Connection: close"]) + "\r\n\r\n").encode("latin-1")


def _is_hop_by_hop(name: str) -> bool:
    return name.lower() in HOP_BY_HOP or name.lower().startswith("proxy-")


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until the source ends or falls silent, or the target is gone; then the target is told that nothing follows."""
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
