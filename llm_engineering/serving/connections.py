"""Connections that are bounded in number, time and size before a request is there. uvicorn bounds none of them."""

import asyncio
import resource
from collections import Counter
from ipaddress import ip_address
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm_engineering.serving.api.errors import SERVER, ApiError
from llm_engineering.serving.api.sse import json_bytes

HEAD_SECONDS = 10.0  # from a connection's beginning, or a request's first byte, to the end of its headers
HEAD_BYTES = 65_536  # of a request's line and headers, trailers and chunk marks included
CHUNK_MARKS = 8  # times the bytes of a body, for one that is sent in the smallest chunks
TAKE_SECONDS = 30.0  # for the client to take the end of an answer
OTHER_FILES = 96  # that a server with all its stores has open beside its connections


def raise_file_limit() -> int:
    """As far as the system allows without asking; how many connections fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):  # macOS names a limit that it does not allow
            pass
    return max(16, (soft if soft != resource.RLIM_INFINITY else wanted) - OTHER_FILES)


class Connections:
    """Those that are open, oldest first. Where there is no room for one more, the one that has waited for longest
    without a whole request goes; where all are being answered, the new one does.

    Loopback addresses have no bound of their own: a proxy on this machine makes everybody look local.
    """

    def __init__(self, *, total: int, per_address: int, body_bytes: int) -> None:
        """`per_address` 0: no bound."""
        self._total, self._per_address, self.body_bytes = total, per_address, body_bytes
        self._open: dict[BoundedConnection, str | None] = {}
        self._addresses: Counter[str] = Counter()

    def add(self, connection: "BoundedConnection", host: str | None) -> bool:
        """Whether it may stay."""
        address = _bounded_address(host) if self._per_address else None
        if address is not None and self._addresses[address] >= self._per_address and not self._evict(address):
            return False
        if len(self._open) >= self._total and not self._evict(None):
            return False
        self._open[connection] = address
        if address is not None:
            self._addresses[address] += 1
        return True

    def remove(self, connection: "BoundedConnection") -> None:
        if (address := self._open.pop(connection, None)) is not None:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def _evict(self, address: str | None) -> bool:
        for one, its_address in self._open.items():
            if one.waits_for_request and address in (None, its_address):
                one.transport.abort()
                self.remove(one)
                return True
        return False


def _bounded_address(host: str | None) -> str | None:
    """The network of an IPv6 address, all of which one machine may have."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return None
    return str(address) if address.version == 4 else address.exploded[:19]  # its /64


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol over httptools; what is wrong with a request has the API's shape."""

    def __init__(self, *given: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*given, **options)
        self._bounds = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._received = 0  # bytes since the last whole request
        self._without_body = 0  # bytes since the last of a body: marks of chunks, trailers
        self._in_head = True
        self._error = ApiError(400, "this is no HTTP request", code="bad_request")

    @property
    def waits_for_request(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if self._bounds.add(self, self.client[0] if self.client else None):
            self._start_head_timer()
        else:
            self._refuse(ApiError(503, "too many connections; try again soon", type=SERVER, code="server_busy",
                                  retry_after=5))  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.remove(self)
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._received += len(data)
        if self.waits_for_request:
            self._start_head_timer()
        bound = HEAD_BYTES + (0 if self._in_head else CHUNK_MARKS * self._bounds.body_bytes)
        if self._in_head and self._received > bound + len(data):  # what came with it may be the body
            self._refuse(ApiError(431, f"the headers are larger than {HEAD_BYTES} bytes", code="headers_too_large"))
            return
        self._without_body += len(data)
        if not self._in_head and (self._received > bound or self._without_body > HEAD_BYTES + len(data)):
            self._refuse(ApiError(413, "the body is too large", code="too_large"))
            return
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():  # a close waits for it, for ever
            self.loop.call_later(TAKE_SECONDS, self._abort_untaken)

    def _abort_untaken(self) -> None:
        if self.waits_for_request and self.transport.get_write_buffer_size():
            self.transport.abort()

    def shutdown(self) -> None:
        """A request whose end has not come yet is not waited for."""
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            self._refuse(self._error)

    # --- what the parser tells ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nothing here reads it
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            self._error = ApiError(431, f"the headers are larger than {HEAD_BYTES} bytes", code="headers_too_large")
            raise ValueError
        if wrong := self._what_is_wrong():
            self._error = ApiError(400, wrong, code="bad_request")
            raise ValueError
        self._in_head, self._without_body = False, 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._received, self._in_head = 0, True
        super().on_message_complete()

    def _what_is_wrong(self) -> str:
        """What the parser lets pass."""
        if self.parser is not None and self.parser.get_http_version() not in ("1.0", "1.1"):
            return "this server speaks HTTP 1.1"
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            return "a body may come in chunks, and in no other encoding"
        return "" if self._target_is_ours() else "the address must be a path, or name the host that Host names"

    def _target_is_ours(self) -> bool:
        """A path; or, as to a proxy, an address whose host is the one that Host names."""
        if self.url.startswith(b"/"):
            return True
        hosts = [value for name, value in self.headers if name == b"host"]
        return any(self.url.lower().startswith(b"http://" + one.lower() + b"/") for one in hosts)

    # --- the clock ------------------------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.waits_for_request and not self.transport.is_closing():
            self._refuse(ApiError(408, f"no request came within {HEAD_SECONDS:g} seconds", code="too_slow"))

    def _refuse(self, error: ApiError) -> None:
        """The answer to what is no request of the API, and the end of the connection."""
        self._stop_head_timer()
        if self.waits_for_request or (self.cycle.more_body and not self.cycle.response_started):
            body = json_bytes(error.body())
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close",
                       "X-Content-Type-Options": "nosniff", **error.headers}  # fmt: skip
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.transport.write(f"HTTP/1.1 {error.status} \r\n{lines}\r\n".encode() + body)
        self.transport.close()
