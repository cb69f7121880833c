"""Puts the page into the API's application, without making the API wait for Gradio, which takes seconds to import."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from llm_engineering.domain.chunks import Facets
from llm_engineering.infrastructure.api.service import Service
from llm_engineering.infrastructure.chat.page import Page

if TYPE_CHECKING:
    from fastapi import FastAPI

HERE = Path(__file__).parent
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
    service: Service,
    facets: Callable[[], Facets],
    titles: Callable[[int], Sequence[str]] = lambda limit: (),
) -> "FastAPI":
    """Adds the page to `app`, the same, whose routes stay as they are.

    `facets` says what the index holds (for the filters), `titles(limit)` gives titles from it (for the examples).
    Whoever may reach `app` may use the page, so the API's gate guards it too: with keys required, the browser asks
    for one. The page is built in the background when the app starts; until then `/` says so.
    """
    from starlette.routing import Route

    chat = Chat(lambda: built(Page(service=service, facets=facets, titles=titles)))
    for path, methods in ROUTES:
        app.router.routes.append(Route(path, chat, methods=list(methods), include_in_schema=False))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def life(app: "FastAPI") -> AsyncIterator[Any]:
        async with before(app) as state, chat.running():
            yield state

    app.router.lifespan_context = life
    return app


def built(page: Page) -> "FastAPI":
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
        head=f"<script>{(HERE / 'page.js').read_text()}</script>",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,
    )


class Chat:
    """An ASGI application: the page once it is built; before, a note that looks again by itself."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._app: Any = None
        self._note = ("The chat page is being prepared …", 5)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        ending = asyncio.Event()
        task = asyncio.create_task(self._run(ending))
        try:
            yield
        finally:
            ending.set()
            await task

    async def _run(self, ending: asyncio.Event) -> None:
        """Build the page, then hold its own lifespan open, in one task, until the end."""
        building = asyncio.create_task(asyncio.to_thread(self._build))
        await asyncio.wait((building, asyncio.create_task(ending.wait())), return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            return  # ended before it was built; its thread ends by itself
        try:
            app = building.result()
        except ImportError as error:
            logger.warning("no chat page: {}. Install the group `ui`: poetry install --with ui", error)
            self._note = ("There is no chat page here: its packages are not installed (the group “ui”).", 0)
            return
        except Exception:  # the API goes on without its page
            logger.exception("the chat page could not be built")
            self._note = ("The chat page could not be built; the server's log says why.", 0)
            return
        async with app.router.lifespan_context(app):
            self._app = app
            await ending.wait()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is not None:
            await self._app(scope, receive, send)
            return
        from starlette.responses import HTMLResponse

        text, again = self._note
        headers = {"Retry-After": str(again), "Refresh": str(again)} if again else {}
        page = (
            f'<!doctype html><meta charset="utf-8"><title>LLM Twin</title><p style="font-family:sans-serif">{text}</p>'
        )
        await HTMLResponse(page, 503, headers=headers)(scope, receive, send)
