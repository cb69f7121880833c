"""The whole server: the platform, the API and the chat page behind one socket, until it is told to stop."""

import ipaddress
import math
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.errors import ConfigError
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.keys import key_ring
from llm_engineering.serving.api.limits import Limits, RateLimiter
from llm_engineering.serving.api.middleware import LOOPBACK
from llm_engineering.serving.chat import mount_chat
from llm_engineering.serving.log import log_to_stderr
from llm_engineering.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

MODEL_ELSEWHERE = 2  # processes that take questions to a model on another server, and answers from it


def serve(settings: Settings, config: AskConfig, *, require_keys: bool = False) -> None:
    """Until SIGINT or SIGTERM. Raises ConfigError when a setting is wrong, the address cannot be had, or it needs keys
    and there are none."""
    import uvicorn

    from llm_engineering.serving.connections import BoundedConnection, Connections, raise_file_limit
    from llm_engineering.serving.stopping import StoppableServer

    log_to_stderr()
    host = settings.api_host
    require_keys = require_keys or not is_loopback(host)
    if require_keys and not key_ring(settings).any_active():
        raise ConfigError(
            f"on {host} this server needs API keys, and there is no active one: make one with "
            "`poe serve-keys add TEAM`, or serve on 127.0.0.1"
        )
    with open_platform(settings) as platform, listen(host, settings.api_port) as listening:
        # what is wrong with its setting is told now
        processes = process_count(settings, generative=platform.language_model.generative)
        limits = limits_of(settings, processes, generative=platform.language_model.generative)
        app = build_app(platform, config, limits=limits, processes=processes, require_keys=require_keys)
        connections = Connections(
            total=min(settings.api_connections, raise_file_limit()),
            per_address=settings.api_connections_per_address,
            body_bytes=limits.body_bytes,
        )
        options = uvicorn.Config(
            app,
            http=partial(BoundedConnection, connections=connections),  # ty: ignore[invalid-argument-type]
            ws="none",
            log_level="error",  # a warning for each malformed request would fill the disk
            access_log=False,
            server_header=False,
            lifespan="on",
            backlog=512,
            timeout_graceful_shutdown=int(limits.finish_seconds) or 1,
        )
        name = f"[{host}]" if ":" in host else host
        print(f"serving http://{name}:{listening.getsockname()[1]} (stop with Ctrl-C)", file=sys.stderr, flush=True)
        server = StoppableServer(options, drain_seconds=limits.drain_seconds, abandon=app.state.calls.service.abandon)
        server.run(sockets=[listening])


def build_app(
    platform: Platform, config: AskConfig, *, limits: Limits, processes: int = 1, require_keys: bool = False
) -> "FastAPI":
    settings = platform.settings
    service = AnswerProcesses(platform, config, processes=processes, slots=math.ceil(limits.threads / processes))
    app = create_app(
        service,
        keys=key_ring(settings),
        require_keys=require_keys,
        rate_limiter=RateLimiter(settings.home / "api_usage.json"),
        limits=limits,
        origins=_listed(settings.api_origins),
        hosts=None if require_keys else LOOPBACK | {settings.api_host} | set(_listed(settings.api_hosts)),
    )
    writable = os.access(settings.home, os.W_OK)  # else Gradio could not make its folders there
    folder = settings.home / "cache" / "gradio" if writable else None
    return mount_chat(app, facets=service.facets, titles=service.titles, folder=folder)


def process_count(settings: Settings, *, generative: bool) -> int:
    """To quote takes the processor's time, so every core gets its share, up to four: each process holds the embedder.
    A model that writes on another server leaves little to do here; one that is in memory here is there once."""
    cores = os.cpu_count() or 1
    if not generative:
        return settings.api_processes or min(4, cores)
    if settings.language_model.startswith("openai:"):
        return min(settings.api_processes or MODEL_ELSEWHERE, Limits().threads)
    return 1


def limits_of(settings: Settings, processes: int, *, generative: bool) -> Limits:
    """Questions are worked on side by side while a model writes. Quoting more at once than there are processes would
    only let each wait for all."""
    limits = Limits(body_bytes=settings.api_max_body_bytes)
    return limits if generative else limits.model_copy(update={"threads": processes})


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Before anything is loaded, so that a wrong address is told at once. Raises ConfigError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --host or --port"
        ) from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
