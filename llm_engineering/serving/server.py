"""The whole server: the platform, the API and the chat page behind one socket, until it is told to stop."""

import ipaddress
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.errors import ConfigError
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.keys import KeyRing, key_ring
from llm_engineering.serving.api.limits import Limits, RateLimiter
from llm_engineering.serving.api.middleware import LOOPBACK
from llm_engineering.serving.chat import mount_chat
from llm_engineering.serving.log import log_to_stderr
from llm_engineering.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI


def serve(settings: Settings, config: AskConfig, *, require_keys: bool = False) -> None:
    """Until SIGINT or SIGTERM. Raises ConfigError when a setting is wrong, the address cannot be had, or it needs keys
    and there are none."""
    import uvicorn

    log_to_stderr()
    host = settings.api_host
    require_keys = require_keys or not is_loopback(host)
    if require_keys:
        check_keys(key_ring(settings), host)
    with open_platform(settings) as platform, listen(host, settings.api_port) as listening:
        generative = platform.language_model.generative  # what is wrong with its setting is told now
        processes = process_count(settings, generative=generative)
        limits = limits_of(settings, processes, generative=generative)
        app = build_app(platform, config, limits=limits, processes=processes, require_keys=require_keys)
        options = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=int(limits.drain_seconds) or 1,
        )
        name = f"[{host}]" if ":" in host else host
        print(f"serving http://{name}:{listening.getsockname()[1]} (stop with Ctrl-C)", file=sys.stderr, flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore)  # uvicorn ends in order and then raises the signal again
        uvicorn.Server(options).run(sockets=[listening])


def build_app(
    platform: Platform, config: AskConfig, *, limits: Limits, processes: int = 1, require_keys: bool = False
) -> "FastAPI":
    settings = platform.settings
    service = AnswerService(platform, config)
    if processes > 1:
        service = AnswerProcesses(platform, config, processes=processes)
    app = create_app(
        service,
        keys=key_ring(settings),
        require_keys=require_keys,
        rate_limiter=RateLimiter(settings.home / "api_usage.json"),
        limits=limits,
        origins=_listed(settings.api_origins),
        hosts=None if require_keys else LOOPBACK | {settings.api_host} | set(_listed(settings.api_hosts)),
    )
    return mount_chat(app, facets=service.facets, titles=service.titles)


def process_count(settings: Settings, *, generative: bool) -> int:
    """One where a model writes, which is there once, or elsewhere. To quote takes the processor's time, so every core
    gets its share, up to four: each process holds the embedder."""
    if generative:
        return 1
    return settings.api_processes or min(4, os.cpu_count() or 1)


def limits_of(settings: Settings, processes: int, *, generative: bool) -> Limits:
    """Questions are worked on side by side while a model writes. Quoting more at once than there are processes would
    only let each wait for all."""
    limits = Limits(body_bytes=settings.api_max_body_bytes)
    return limits if generative else limits.model_copy(update={"threads": processes})


def check_keys(keys: KeyRing, host: str) -> None:
    """Raises ConfigError when nobody could ask."""
    if not keys.any_active():
        raise ConfigError(
            f"on {host} this server needs API keys, and there is no active one: make one with "
            "`poe serve-keys add TEAM`, or serve on 127.0.0.1"
        )


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


def _ignore(number: int, frame: object) -> None:
    """Being told to stop is no failure."""
