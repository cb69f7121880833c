"""Connections for httpx that go exactly where the guard looked, and never outlast their deadline."""

import ssl
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.deadline import limited_wait, with_timeout
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard

if TYPE_CHECKING:
    import httpx
    from httpcore import SOCKET_OPTION, NetworkBackend, NetworkStream


class GuardedNetwork:
    """An httpcore network backend: resolves once, checks every address, and connects to one that was checked, so a
    name that changes its address between check and connection gains nothing. Host header and SNI stay the name."""

    def __init__(self, guard: SsrfGuard) -> None:
        from httpcore import SyncBackend

        self._guard, self._plain = guard, SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: "Iterable[SOCKET_OPTION] | None" = None,
    ) -> "TimedStream":
        import httpcore

        with limited_wait(timeout) as seconds:
            addresses = with_timeout(lambda: self._guard.addresses(host, port), seconds)
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                with limited_wait(timeout) as seconds:
                    return TimedStream(self._plain.connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == 0:
                    raise
        raise AssertionError("the guard gives at least one address")

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: object = None) -> None:
        raise FetchError(Reason.BLOCKED_ADDRESS, "a socket file is no web address", retry=False)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class TimedStream:
    """A connection whose every wait ends with the deadline, so that a drip of single bytes cannot go on for ever."""

    def __init__(self, stream: "NetworkStream") -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with limited_wait(timeout) as seconds:
            return self._stream.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with limited_wait(timeout) as seconds:
            self._stream.write(buffer, seconds)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "TimedStream":
        import httpcore

        try:
            with limited_wait(timeout) as seconds:
                return TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds))
        except httpcore.ConnectError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                why = getattr(cause, "verify_message", "") or cause.reason or cause
                detail = f"no trusted connection to {server_hostname}: {printable_line(why)}"
                raise FetchError(Reason.TLS, detail, retry=False) from error
            raise

    def get_extra_info(self, info: str) -> Any:  # httpcore's own signature: what comes back depends on `info`
        return self._stream.get_extra_info(info)


@contextmanager
def translated_errors() -> Generator[None]:
    """httpx's errors as ours. What it does not name is a bug, and passes."""
    import httpx

    try:
        yield
    except httpx.ConnectTimeout as error:
        raise FetchError(Reason.TIMEOUT, "no connection in time", retry=True, retry_now=True) from error
    except httpx.TimeoutException as error:
        raise FetchError(Reason.TIMEOUT, "connected, but no answer in time", retry=True, retry_now=True) from error
    except httpx.ConnectError as error:
        raise FetchError(Reason.CONNECT, f"no connection: {error}", retry=True, retry_now=True) from error
    except UnicodeError as error:  # of a host name that is no name, in a Location header: httpx looks ahead
        raise FetchError(Reason.BAD_LINK, f"redirects to what is no link: {error}", retry=False) from error
    except (httpx.InvalidURL, httpx.TransportError) as error:
        if isinstance(error, httpx.InvalidURL) or "location header" in str(error):  # httpx looks ahead
            raise FetchError(Reason.BAD_LINK, f"redirects to what is no link: {error}", retry=False) from error
        raise FetchError(Reason.CONNECT, f"the connection broke: {error}", retry=True, retry_now=True) from error


def guarded_client(guard: SsrfGuard, *, user_agent: str) -> "httpx.Client":
    """A client over the guarded network. The environment's proxies are not used: a proxy would resolve names by
    itself, behind the guard's back. Its certificate variables (SSL_CERT_FILE) are."""
    import httpcore
    import httpx

    transport = httpx.HTTPTransport(trust_env=False)
    # httpx has no public way to give its pool a network backend; httpx is pinned below 1.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=True),
        max_connections=None,  # the caller's threads and the slots per host are the limit
        max_keepalive_connections=128,
        keepalive_expiry=15.0,
        network_backend=cast("NetworkBackend", GuardedNetwork(guard)),  # no subclass: httpcore is imported when used
    )
    return httpx.Client(transport=transport, trust_env=False, headers={"User-Agent": user_agent})
