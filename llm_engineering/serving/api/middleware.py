"""What every request passes: its id, the host it names, its key, its size, the clock, the log and the headers."""

import asyncio
import base64
import re
import secrets
import time
from collections.abc import Collection, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.serving.api.errors import SERVER, ApiError, api_error_of
from llm_engineering.serving.api.keys import ApiKey, KeyRing, unauthorized
from llm_engineering.serving.api.limits import Limits, RateLimiter
from llm_engineering.serving.api.metrics import Metrics
from llm_engineering.serving.api.sse import ClientDisconnected, json_bytes

Headers = Iterable[tuple[bytes, bytes]]

WITHOUT_KEY = frozenset({"/health", "/ready"})  # for probes, which have no key
PROBES = frozenset({*WITHOUT_KEY, "/metrics"})  # asked every few seconds, for ever
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_LOAD_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class ClientTooSlow(Exception):
    """It neither sent nor took anything for as long as a client may."""


class ApiMiddleware:
    """ASGI middleware. `hosts` None: any host name is served; else only those, so that a page elsewhere cannot reach
    a server on loopback by giving its own name that address (DNS rebinding)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing | None,
        require_keys: bool,
        rate_limiter: RateLimiter,
        limits: Limits,
        metrics: Metrics,
        hosts: Collection[str] | None,
    ) -> None:
        self._app, self._keys, self._require_keys, self._rate_limiter = app, keys, require_keys, rate_limiter
        self._limits, self._metrics, self._hosts = limits, metrics, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            elif scope["type"] == "websocket":  # there is nothing behind one
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
            return
        await _GuardedRequest(self, scope, receive, send).handle()


class _GuardedRequest:
    """One request, and what was answered."""

    def __init__(self, middleware: ApiMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware, self._scope, self._receive, self._send = middleware, scope, receive, send
        self._headers = dict(scope["headers"])
        self._started_at = time.perf_counter()
        self._status, self._response_started, self._body_complete, self._received = 0, False, False, 0
        self._body_until: float | None = None  # loop time
        self._key: ApiKey | None = None
        self._body_error: ApiError | None = None  # of the body, which FastAPI would report as "cannot be parsed"
        given = self._headers.get(b"x-request-id", b"")
        self.id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

    async def handle(self) -> None:
        self._scope.setdefault("state", {})["request_id"] = self.id
        note = ""
        try:
            await self._check()
            await self._middleware._app(self._scope, self.receive, self.send)
        except ApiError as error:
            await self._respond(self._body_error or error)
        except LLMTwinError as error:
            note = str(error)
            await self._respond(api_error_of(error))
        except asyncio.CancelledError:  # the server is told to stop, and its time to finish is over
            note = "cut off"
            message = "the server was stopped before this was answered; try again soon"
            await self._respond(ApiError(503, message, type=SERVER, code="stopping", retry_after=5))
        except (ClientDisconnected, ClientTooSlow) as error:
            self._status, note = 499, type(error).__name__  # as nginx writes it; returning cuts the connection
        except Exception:
            from loguru import logger

            logger.exception(f"request {self.id} met a bug")
            message = f"something went wrong in the server, which its log explains under request {self.id}"
            await self._respond(ApiError(500, message, type=SERVER, code="internal_error"))
        finally:
            self._log(note)

    async def _check(self) -> None:
        self._check_form()
        if self._middleware._hosts is not None and (name := self._host()) not in self._middleware._hosts:
            known = ", ".join(sorted(self._middleware._hosts))
            raise ApiError(
                421, f"this server does not answer to the name {name[:100]!r}, only to {known}; see TWIN_API_HOSTS",
                code="wrong_host",
            )  # fmt: skip
        if self._scope["path"] not in WITHOUT_KEY and self._scope["method"] != "OPTIONS":
            self._key = self._find_key()
            self._scope["state"]["key"] = self._key
            if self._key and self._scope["method"] == "POST":
                self._middleware._rate_limiter.acquire(self._key)
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._middleware._limits.body_bytes:
            raise self._too_large()

    def _check_form(self) -> None:
        """What a proxy before this server could read in another way than it does."""
        hosts = sum(name == b"host" for name, _ in self._scope["headers"])
        if hosts > 1 or (not hosts and self._scope.get("http_version") == "1.1"):
            raise ApiError(400, f"one Host header is needed, and {hosts} came", code="bad_request")
        if self._headers.get(b"upgrade", b"").lower() == b"websocket":
            raise ApiError(400, "there is no web socket here; answers stream as server-sent events", code="bad_request")

    def _host(self) -> str:
        host = self._headers.get(b"host", b"").decode("latin-1").lower()
        return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]

    def _find_key(self) -> ApiKey | None:
        """On loopback a key that is not known is as good as none: OpenAI's clients cannot be told to send none."""
        secret, keys = _secret(self._headers.get(b"authorization", b"")), self._middleware._keys
        try:
            if secret and keys:
                return keys.find(secret)
            if self._middleware._require_keys:
                raise unauthorized("this server needs an API key: send the header `Authorization: Bearer KEY`")
        except ApiError as error:
            if self._middleware._require_keys:
                # a browser then asks for it, with any user name, so that the chat page can be opened
                browser = b"text/html" in self._headers.get(b"accept", b"")
                error.headers["WWW-Authenticate"] = 'Basic realm="LLM Twin"' if browser else "Bearer"
                raise
        return None

    async def receive(self) -> Message:
        if self._body_complete:
            return await self._receive()  # only whether the client is still there
        seconds = self._middleware._limits.client_seconds
        self._body_until = self._body_until or asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(self._body_until):
                message = await self._receive()
        except TimeoutError:
            self._body_error = ApiError(408, f"the body did not come within {seconds:g} seconds", code="too_slow")
            raise self._body_error from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._body_complete = not message.get("more_body", False)
            if self._received > self._middleware._limits.body_bytes:
                self._body_error = self._too_large()
                raise self._body_error
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._response_started = message["status"], True
            message["headers"] = [*message.get("headers", ()), *self._further_headers(message.get("headers", ()))]
        try:
            async with asyncio.timeout(self._middleware._limits.client_seconds):
                await self._send(message)
        except TimeoutError:
            raise ClientTooSlow from None

    def _further_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        further = [(b"x-request-id", self.id.encode()), *_SECURITY_HEADERS]
        has_policy = any(name.lower() == _LOAD_NOTHING[0] for name, _ in headers)  # a page says what it loads
        return further if has_policy else [*further, _LOAD_NOTHING]

    async def _respond(self, error: ApiError) -> None:
        if self._response_started:
            return  # half an answer is out: cutting the connection is all that can be said
        body = json_bytes(error.body())
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
        if error.status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not read
        start = {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
        }
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b"" if self._scope["method"] == "HEAD" else body})

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._middleware._limits.body_bytes} bytes", code="too_large")

    def _log(self, note: str) -> None:
        from loguru import logger

        seconds = time.perf_counter() - self._started_at
        route = getattr(self._scope.get("route"), "path", "other")
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        self._middleware._metrics.requested(route, method, self._status, seconds)
        team = self._key.team if self._key else "-"
        level = "DEBUG" if route in PROBES else "WARNING" if self._status >= 500 else "INFO"
        logger.log(level, f"{self.id} {method} {route} {self._status} {seconds * 1000:.0f} ms {team} {note}".rstrip())


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _secret(header: bytes) -> str:
    """Of `Authorization: Bearer SECRET`, or of Basic, whose password is the secret."""
    scheme, _, rest = header.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""
