"""Puts the page into the API's application, which never waits for Gradio: importing it takes seconds."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.chunks import Facets
from llm_engineering.serving.chat.deferred_app import DeferredApp
from llm_engineering.serving.chat.page import Page

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

HERE = Path(__file__).parent
# Of the whole window, scroll bars included: Gradio sets it once, to what it was at first.
BACKGROUND = """
body { background: #fff !important } body.dark { background: #0c0a09 !important }
html:has(body.dark) { color-scheme: dark }
"""
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
    folder: Path | None = None,
) -> "FastAPI":
    """Adds the page to `app` (of `create_app`), the same, whose routes stay as they are.

    `facets` says what the index holds (for the filters), `titles(limit)` gives titles from it (for the examples).
    `folder`: where Gradio may make the folders it wants, in which nothing is kept; None: among the temporary files.
    Whoever may reach `app` may use the page, so the API's middleware guards it too: with keys required, the browser
    asks for one. Its questions go through the API's calls: the same bounds, times and metrics hold for them.

    The page is built when it is first asked for, and not before the models are loaded; until then `/` says so.
    """
    from starlette.responses import Response
    from starlette.routing import Route

    async def script(_: "Request") -> Response:
        return Response((HERE / "page.js").read_bytes(), media_type="text/javascript")

    app.router.routes.append(Route("/page.js", script, include_in_schema=False))
    calls = app.state.calls
    page = Page(calls=calls, facets=facets, titles=titles)
    chat = DeferredApp(lambda: gradio_app(page, folder), after=calls.loaded.wait)
    for path, methods in ROUTES:
        app.router.routes.append(Route(path, chat, methods=list(methods), include_in_schema=False))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: "FastAPI") -> AsyncGenerator[Any]:
        async with before(app) as state, chat.running():
            yield state

    app.router.lifespan_context = lifespan
    return app


def gradio_app(page: Page, folder: Path | None = None) -> "FastAPI":
    """The page as an application of its own. Raises ImportError where Gradio is not installed."""
    import os

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # it would report to its makers
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if folder is not None:
        os.environ.setdefault("GRADIO_TEMP_DIR", str(folder))
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
        head=f'<style>{BACKGROUND}</style><script src="page.js"></script>',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,
    )
