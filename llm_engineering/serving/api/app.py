"""The API: OpenAI's chat completions and the platform's own routes, over any `Service`. See docs/serve.md."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llm_engineering.serving.api.keys import KeyRing
from llm_engineering.serving.api.limits import Limits, RateLimiter
from llm_engineering.serving.api.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI

ABOUT = """\
Answers from an author's own writing, with verified citations. `/v1/chat/completions` speaks OpenAI's protocol, so any
client of it works; `/rag` and `/search` say more. On another host than loopback every route but `/health` and `/ready`
needs `Authorization: Bearer KEY`."""
SAVE_EVERY = 10.0  # seconds between writing down what the keys have used


def create_app(
    service: Service,
    *,
    keys: KeyRing | None = None,
    require_keys: bool = False,
    rate_limiter: RateLimiter | None = None,
    limits: Limits | None = None,
    origins: Collection[str] = (),
    hosts: Collection[str] | None = None,
) -> "FastAPI":
    """`hosts`: the names this server answers to, None for any. `origins`: whose pages may call it from a browser.

    `service` is loaded in the background when the server starts, and closed when it ends, whatever it does then. What
    else is served here asks it through `app.state.calls`.
    """
    from fastapi import FastAPI

    from llm_engineering.serving.api import routes
    from llm_engineering.serving.api.calls import Calls
    from llm_engineering.serving.api.docs_page import add_docs_page
    from llm_engineering.serving.api.metrics import Metrics
    from llm_engineering.serving.api.middleware import ApiMiddleware
    from llm_engineering.serving.api.openapi import describe
    from llm_engineering.serving.api.worker_pool import WorkerPool

    limits, rate_limiter = limits or Limits(), rate_limiter or RateLimiter()
    workers = WorkerPool(
        threads=limits.threads,
        waiting=limits.waiting,
        per_owner=limits.waiting_per_key,
        client_seconds=limits.client_seconds,
    )
    metrics = Metrics(workers)
    calls = Calls(service=service, workers=workers, limits=limits, metrics=metrics)

    @asynccontextmanager
    async def lifespan(_: "FastAPI") -> AsyncGenerator[None]:
        calls.load()
        saving = asyncio.create_task(_save_periodically(rate_limiter))
        try:
            yield
        finally:
            saving.cancel()
            await asyncio.to_thread(workers.close, limits.close_seconds)
            await asyncio.to_thread(rate_limiter.save)
            await asyncio.to_thread(service.close)

    # FastAPI's own pages of the document load their scripts from elsewhere
    app = FastAPI(
        title="LLM Twin", version="1", description=ABOUT, lifespan=lifespan, redirect_slashes=False, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    app.state.calls = calls
    routes.register(app, calls)
    describe(app, require_keys=require_keys)
    add_docs_page(app)
    app.add_middleware(
        ApiMiddleware,
        keys=keys,
        require_keys=require_keys,
        rate_limiter=rate_limiter,
        limits=limits,
        metrics=metrics,
        hosts=hosts,
    )
    if origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    return app


async def _save_periodically(rate_limiter: RateLimiter) -> None:
    while True:
        await asyncio.sleep(SAVE_EVERY)
        await asyncio.to_thread(rate_limiter.save)
