"""Connections for httpx that go exactly where the guard looked, and never outlast their deadline."""

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, one_line
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard

T = TypeVar("T")


class Deadline:
    """The whole time one link may take. Waiting for the host's turn does not count: see `pause`."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above zero. Raises FetchTimeout."""
        seconds = self._ends - time.monotonic()
        if seconds <= 0:
            raise FetchTimeout
        return seconds

    def allows(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._ends

    @contextmanager
    def pause(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._ends += time.monotonic() - began


# httpcore hands a connection no word about the request it serves, but serves it in the asking thread.
DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def clock(deadline: Deadline | None) -> Iterator[None]:
    token = DEADLINE.set(deadline)
    try:
        yield
    finally:
        DEADLINE.reset(token)


@contextmanager
def _limited(timeout: float | None) -> Iterator[float | None]:
    """The seconds to wait for one thing: the timeout, or what is left of the whole; FetchTimeout when that was it."""
    import httpcore

    deadline = DEADLINE.get()
    if deadline is None:
        yield timeout
        return
    seconds = deadline.left()
    try:
        yield seconds if timeout is None else min(timeout, seconds)
    except httpcore.TimeoutException:
        deadline.left()
        raise


class GuardedNetwork:
    """An httpcore network backend: resolves once, checks every address, and connects to one that was checked, so a
    name that changes its address between check and connection gains nothing. Host header and SNI stay the name."""

    def __init__(self, guard: SsrfGuard) -> None:
        from httpcore import SyncBackend

        self._guard, self._plain = guard, SyncBackend()

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None) -> "TimedStream":
        import httpcore

        with _limited(timeout) as seconds:
            addresses = in_time(lambda: self._guard.addresses(host, port), seconds)
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                with _limited(timeout) as seconds:
                    return TimedStream(self._plain.connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == 0:
                    raise
        raise AssertionError("the guard gives at least one address")

    def connect_unix_socket(self, path, timeout=None, socket_options=None):
        raise FetchError(Reason.BLOCKED_ADDRESS, "a socket file is no web address", retry=False)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class TimedStream:
    """A connection whose every wait ends with the deadline, so that a drip of single bytes cannot go on for ever."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _limited(timeout) as seconds:
            return self._stream.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _limited(timeout) as seconds:
            self._stream.write(buffer, seconds)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None) -> "TimedStream":
        import httpcore

        try:
            with _limited(timeout) as seconds:
                return TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds))
        except httpcore.ConnectError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                why = getattr(cause, "verify_message", "") or cause.reason or cause
                detail = f"no trusted connection to {server_hostname}: {one_line(why)}"
                raise FetchError(Reason.TLS, detail, retry=False) from error
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def in_time(work: Callable[[], T], seconds: float | None) -> T:
    """Run what cannot be interrupted (the system's resolver) and stop waiting for it after `seconds`."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise FetchError(Reason.DNS, "the name server gave no answer in time", retry=True, again=True) from None
    if error is not None:
        raise error
    return answer


@contextmanager
def honest_errors() -> Iterator[None]:
    """httpx's errors as ours. What it does not name is a bug, and passes."""
    import httpx

    try:
        yield
    except httpx.ConnectTimeout as error:
        raise FetchError(Reason.TIMEOUT, "no connection in time", retry=True, again=True) from error
    except httpx.TimeoutException as error:
        raise FetchError(Reason.TIMEOUT, "connected, but no answer in time", retry=True, again=True) from error
    except httpx.ConnectError as error:
        raise FetchError(Reason.CONNECT, f"no connection: {error}", retry=True, again=True) from error
    except (httpx.InvalidURL, httpx.RemoteProtocolError) as error:
        if isinstance(error, httpx.InvalidURL) or "location header" in str(error):  # httpx looks ahead
            raise FetchError(Reason.BAD_LINK, f"redirects to what is no link: {error}", retry=False) from error
        raise FetchError(Reason.CONNECT, f"the connection broke: {error}", retry=True, again=True) from error
    except httpx.TransportError as error:
        raise FetchError(Reason.CONNECT, f"the connection broke: {error}", retry=True, again=True) from error


def guarded_client(guard: SsrfGuard, *, user_agent: str):
    """An `httpx.Client` over the guarded network. The environment's proxies are not used: a proxy would resolve
    names by itself, behind the guard's back. Its certificate variables (SSL_CERT_FILE) are."""
    import httpcore
    import httpx

    transport = httpx.HTTPTransport(trust_env=False)
    # httpx has no public way to give its pool a network backend; httpx is pinned below 1.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=True),
        max_connections=None,  # the caller's threads and the turns per host are the limit
        max_keepalive_connections=128,
        keepalive_expiry=15.0,
        network_backend=GuardedNetwork(guard),  # type: ignore[arg-type]
    )
    return httpx.Client(transport=transport, trust_env=False, headers={"User-Agent": user_agent})
