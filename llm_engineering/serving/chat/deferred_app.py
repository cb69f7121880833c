"""The chat page as an ASGI application that is there before the page is, and ends when the server is told to stop."""

import asyncio
import secrets
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_engineering.serving.api.errors import SERVER, ApiError

if TYPE_CHECKING:
    from starlette.applications import Starlette

T = TypeVar("T")
HEARTBEAT = "/gradio_api/heartbeat/"
STREAMS = (HEARTBEAT, "/gradio_api/queue/data")
MAX_STREAMS = 400  # of all open pages
MAX_BODY = 200_000  # bytes of what a page sends: a question and what was chosen
_CORS_HEADERS = (b"origin", b"access-control-request-method", b"access-control-request-headers")
# Gradio makes functions of texts, and styles of everything; so these two stay. Scripts in the page need the nonce.
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors 'self'"
)


class DeferredApp:
    """An ASGI application: the page once it is built; before, a note that reloads itself."""

    def __init__(self, build: Callable[[], "Starlette"], *, after: Callable[[], Awaitable[object]]) -> None:
        self._build, self._after = build, after
        self._app: Starlette | None = None
        self._status = ("The server is starting …", 1)
        self._wanted, self._ending = asyncio.Event(), asyncio.Event()
        self._heartbeats: set[asyncio.Task] = set()
        self._streams = 0  # being sent

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        closed = asyncio.Event()
        task = asyncio.create_task(self._run(closed))
        try:
            with _on_stop_signal(self._ending.set):
                yield
        finally:
            closed.set()
            for one in self._heartbeats:
                one.cancel()
            await task

    async def _run(self, closed: asyncio.Event) -> None:
        """Build the page, then hold its own lifespan open, in one task, until the end."""
        building, ended = asyncio.create_task(self._build_when_due()), asyncio.create_task(closed.wait())
        await asyncio.wait((building, ended), return_when=asyncio.FIRST_COMPLETED)
        try:
            if not building.done():
                building.cancel()  # its thread, if there is one, ends by itself
                return
            app = building.result()
            async with app.router.lifespan_context(app):
                self._app = app
                await ended
        except ImportError as error:
            logger.error("no chat page: {}. Install the group `ui`: poetry install --with ui", error)
            self._status = ("There is no chat page here: its packages are not installed (the group “ui”).", 0)
        except Exception:  # the API goes on without its page
            logger.exception("the chat page could not be built")
            self._status = ("The chat page could not be built; the server's log says why.", 0)
        finally:
            ended.cancel()

    async def _build_when_due(self) -> "Starlette":
        """What takes seconds of all the processor's time waits until it keeps nobody from an answer."""
        await self._after()
        self._status = ("The chat page is being prepared …", 1)
        await self._wanted.wait()
        return await _in_daemon_thread(self._build)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_request(scope)
        if self._app is None:
            self._wanted.set()
            await self._respond_status(scope, receive, send)
            return
        # Gradio answers any page of this machine as if it were its own, and any page at all behind a proxy
        scope = {**scope, "headers": [one for one in scope["headers"] if one[0] not in _CORS_HEADERS]}
        if scope["path"] == "/":
            await _with_policy(self._app, scope, receive, send)
        elif scope["path"].startswith(STREAMS):
            await self._stream(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _stream(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """An open page holds one for ever, and one while it waits for an answer; others need connections, too."""
        if self._streams >= MAX_STREAMS:
            raise ApiError(503, "too many pages are open; try again later", type=SERVER, code="server_busy",
                           retry_after=30)  # fmt: skip
        self._streams += 1
        try:
            if scope["path"].startswith(HEARTBEAT):
                await self._heartbeat(app, scope, receive, send)
            else:
                await app(scope, receive, send)
        finally:
            self._streams -= 1

    async def _heartbeat(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Every open page holds one of these for ever, and a server that is told to stop would wait for them all. So
        they are ended then; Gradio's side is left waiting, because its end would also end the answers being written.
        """
        over = False

        async def send_until_over(message: Message) -> None:
            if not over:
                await send(message)

        beating = asyncio.ensure_future(app(scope, receive, send_until_over))
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((beating, ending), return_when=asyncio.FIRST_COMPLETED)
            if not beating.done():
                over = True
                self._heartbeats.add(beating)
                beating.add_done_callback(self._heartbeats.discard)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
        except asyncio.CancelledError:
            beating.cancel()
            raise
        finally:
            ending.cancel()
        await beating

    async def _respond_status(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import HTMLResponse

        text, retry_after = self._status
        headers = {"Retry-After": str(retry_after), "Refresh": str(retry_after)} if retry_after else {}
        page = f'<!doctype html><meta charset="utf-8"><title>LLM Twin</title><p>{text}</p>'
        await HTMLResponse(page, 503, headers=headers)(scope, receive, send)


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """As asyncio.to_thread, but a server that is told to stop does not wait for it."""
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def run() -> None:
        outcome: tuple[T | None, Exception | None]
        try:
            outcome = work(), None
        except Exception as error:  # raised where it is waited for
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed: the server has ended meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="chat page", daemon=True).start()
    return await future


def _check_request(scope: Scope) -> None:
    """Raises ApiError for what a page of another origin sends, as a browser says of it (what changes nothing may be
    asked for by anybody), and for more than the page ever sends, before Gradio reads it where all others wait."""
    headers = dict(scope["headers"])
    if scope["method"] != "POST":
        return
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        raise ApiError(403, "only this server's own page may do that", code="wrong_origin")
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise ApiError(413, f"the page sends at most {MAX_BODY} bytes, and says how many", code="too_large")


async def _with_policy(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The page with a policy that runs no script but its own: those it was built with get a nonce."""
    nonce = secrets.token_urlsafe(16)
    start: Message = {}
    page = bytearray()

    async def send_marked(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        page.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        body = bytes(page).replace(b"<script", f'<script nonce="{nonce}"'.encode())
        kept = [one for one in start["headers"] if one[0].lower() != b"content-length"]
        further = [
            (b"content-length", str(len(body)).encode()),
            (b"content-security-policy", POLICY.format(nonce=nonce).encode()),
        ]
        await send({**start, "headers": [*kept, *further]})
        await send({"type": "http.response.body", "body": body})

    plain = [one for one in scope["headers"] if one[0] != b"accept-encoding"]  # or it might be compressed
    await app({**scope, "headers": plain}, receive, send_marked)


@contextmanager
def _on_stop_signal(then: Callable[[], None]) -> Generator[None]:
    """Hear of SIGINT and SIGTERM before the server has waited for its connections, which is when it tells its
    applications. Whoever listened before is called as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, previous = asyncio.get_running_loop(), {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(then)
        previous[number](number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            previous[number] = handler
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is on_signal:
                signal.signal(number, handler)
