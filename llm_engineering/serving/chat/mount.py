"""Puts the page into the API's application, which never waits for Gradio: importing it takes seconds."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from llm_engineering.domain.chunks import Facets
from llm_engineering.serving.chat.page import Page

if TYPE_CHECKING:
    from fastapi import FastAPI

HERE = Path(__file__).parent
# Of the whole window, scroll bars included: Gradio sets it once, to what it was at first.
BACKGROUND = """
body { background: #fff !important } body.dark { background: #0c0a09 !important }
html:has(body.dark) { color-scheme: dark }
"""
HEARTBEAT = "/gradio_api/heartbeat/"
# All that the page itself asks for. What else Gradio can serve (files, uploads, a proxy, its own API) stays shut.
ROUTES = (
    ("/", ("GET",)),
    ("/config", ("GET",)),
    ("/theme.css", ("GET",)),
    ("/favicon.ico", ("GET",)),
    ("/manifest.json", ("GET",)),
    ("/assets/{rest:path}", ("GET",)),
    ("/static/{rest:path}", ("GET",)),
    ("/svelte/{rest:path}", ("GET",)),
    ("/gradio_api/theme.css", ("GET",)),
    ("/gradio_api/info", ("GET",)),
    ("/gradio_api/startup-events", ("GET",)),
    ("/gradio_api/heartbeat/{rest}", ("GET",)),
    ("/gradio_api/queue/join", ("POST",)),
    ("/gradio_api/queue/data", ("GET",)),
    ("/gradio_api/cancel", ("POST",)),
    ("/gradio_api/reset", ("POST",)),
)


def mount_chat(
    app: "FastAPI",
    *,
    facets: Callable[[], Facets],
    titles: Callable[[int], Sequence[str]] = lambda limit: (),
) -> "FastAPI":
    """Adds the page to `app` (of `create_app`), the same, whose routes stay as they are.

    `facets` says what the index holds (for the filters), `titles(limit)` gives titles from it (for the examples).
    Whoever may reach `app` may use the page, so the API's middleware guards it too: with keys required, the browser
    asks for one. Its questions go through the API's calls: the same bounds, times and metrics hold for them.

    The page is built when it is first asked for, and not before the models are loaded; until then `/` says so.
    """
    from starlette.routing import Route

    calls = app.state.calls
    chat = ChatApp(lambda: gradio_app(Page(calls=calls, facets=facets, titles=titles)), after=calls.loaded.wait)
    for path, methods in ROUTES:
        app.router.routes.append(Route(path, chat, methods=list(methods), include_in_schema=False))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: "FastAPI") -> AsyncGenerator[Any]:
        async with before(app) as state, chat.running():
            yield state

    app.router.lifespan_context = lifespan
    return app


def gradio_app(page: Page) -> "FastAPI":
    """The page as an application of its own. Raises ImportError where Gradio is not installed."""
    import os

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # it would report to its makers
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio as gr
    from fastapi import FastAPI

    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page.build(),
        path="/",
        theme=theme,
        css_paths=[HERE / "page.css"],
        head=f"<style>{BACKGROUND}</style><script>{(HERE / 'page.js').read_text()}</script>",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,
    )


class ChatApp:
    """An ASGI application: the page once it is built; before, a note that reloads itself."""

    def __init__(self, build: Callable[[], Any], *, after: Callable[[], Awaitable[Any]]) -> None:
        self._build, self._after = build, after
        self._app: Any = None
        self._status = ("The server is starting …", 1)
        self._wanted, self._ending = asyncio.Event(), asyncio.Event()
        self._heartbeats: set[asyncio.Task] = set()

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
        building, ended = asyncio.create_task(self._built()), asyncio.create_task(closed.wait())
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

    async def _built(self) -> Any:
        """What takes seconds of all the processor's time waits until it keeps nobody from an answer."""
        await self._after()
        self._status = ("The chat page is being prepared …", 1)
        await self._wanted.wait()
        return await asyncio.to_thread(self._build)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._wanted.set()
            await self._respond_status(scope, receive, send)
        elif scope["path"].startswith(HEARTBEAT):
            await self._heartbeat(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _heartbeat(self, scope: Any, receive: Any, send: Any) -> None:
        """Every open page holds one of these for ever, and a server that is told to stop would wait for them all. So
        they are ended then; Gradio's side is left waiting, because its end would also end the answers being written.
        """
        over = False

        async def send_until_over(message: Any) -> None:
            if not over:
                await send(message)

        beating = asyncio.create_task(self._app(scope, receive, send_until_over))
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

    async def _respond_status(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import HTMLResponse

        text, retry_after = self._status
        headers = {"Retry-After": str(retry_after), "Refresh": str(retry_after)} if retry_after else {}
        style = "font-family:sans-serif;margin:3em"
        page = f'<!doctype html><meta charset="utf-8"><title>LLM Twin</title><p style="{style}">{text}</p>'
        await HTMLResponse(page, 503, headers=headers)(scope, receive, send)


@contextmanager
def _on_stop_signal(then: Callable[[], None]) -> Generator[None]:
    """Hear of SIGINT and SIGTERM before the server has waited for its connections, which is when it tells its
    applications. Whoever listened before is called as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), {}

    def on_signal(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(then)
        before[number](number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        listening = signal.getsignal(number)
        if callable(listening):
            before[number] = listening
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, listening in before.items():
            if signal.getsignal(number) is on_signal:
                signal.signal(number, listening)
