"""`poe serve [--host HOST] [--port PORT]`: the API and the chat page. `poe serve-keys add|list|revoke`: who may ask.

Exit code 0: it was told to stop, and finished what it had begun. 2: a setting or the command line is wrong, or the
address is taken.
"""

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.serving.api.keys import KeyRing
from llm_engineering.serving.api.limits import Allowance, Limits
from llm_engineering.settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from llm_engineering.bootstrap import Platform
    from llm_engineering.domain.ports import LanguageModel


@click.group(invoke_without_command=True)
@click.option("--host", help="Where to listen; another host than loopback needs keys. [default: TWIN_API_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: TWIN_API_PORT]")
@click.option("--require-keys", is_flag=True, help="Also on loopback, as behind a proxy that others can reach.")
@click.option("--config", type=click.Path(path_type=Path), help="[default: configs/ask.yaml]")
@click.pass_context
def main(context: click.Context, host: str | None, port: int | None, require_keys: bool, config: Path | None) -> None:
    """Serve the API and the chat page until told to stop (Ctrl-C, SIGTERM)."""
    if context.invoked_subcommand:
        return
    with _told():
        settings = load_settings()
        given = {"api_host": host, "api_port": port}
        settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
        serve(settings, require_keys=require_keys, config=config)


def serve(settings: Settings, *, require_keys: bool = False, config: Path | None = None) -> None:
    """Until SIGINT or SIGTERM. Raises ConfigError when a setting is wrong, the address cannot be had, or it needs keys
    and there are none."""
    import uvicorn

    from llm_engineering.bootstrap import open_platform

    log_to_stderr()
    host = settings.api_host
    needs_keys = require_keys or not is_loopback(host)
    check_keys(key_ring(settings), host, needs_keys=needs_keys)
    with open_platform(settings) as platform, listening(host, settings.api_port) as taken:
        model = platform.language_model  # what is wrong with its setting is told now
        processes = processes_for(settings, model)
        limits = limits_for(model, processes)
        app = build_app(platform, limits=limits, processes=processes, require_keys=needs_keys, config=config)
        options = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=int(limits.drain_seconds) or 1,
        )
        name = f"[{host}]" if ":" in host else host
        click.echo(f"serving http://{name}:{taken.getsockname()[1]} (stop with Ctrl-C)", err=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _nothing)  # uvicorn ends in order and then raises the signal again
        uvicorn.Server(options).run(sockets=[taken])


def processes_for(settings: Settings, model: "LanguageModel") -> int:
    """A model that writes is there once, or elsewhere; to quote takes the processor's time, so every core gets its
    share, up to four: each process holds the embedder."""
    return settings.api_processes or (1 if model.generative else min(4, os.cpu_count() or 1))


def limits_for(model: "LanguageModel", processes: int) -> Limits:
    """Questions are worked on side by side while a model writes. Quoting more at once than there are processes would
    only let each wait for all."""
    return Limits() if model.generative else Limits(threads=processes)


def log_to_stderr() -> None:
    """One line per request that is no probe, and traces without the values in them, which may be questions and keys."""
    from loguru import logger

    logger.remove()
    shown = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level} {message}"
    logger.add(sys.stderr, level="INFO", format=shown, diagnose=False, backtrace=False)


def _nothing(number: int, frame: object) -> None:
    """Being told to stop is no failure."""


def build_app(
    platform: "Platform",
    *,
    limits: Limits,
    processes: int = 1,
    require_keys: bool = False,
    config: Path | None = None,
) -> "FastAPI":
    from llm_engineering.operate.configs import load_ask_config
    from llm_engineering.serving.answer_processes import AnswerProcesses
    from llm_engineering.serving.answer_service import AnswerService
    from llm_engineering.serving.api.app import create_app
    from llm_engineering.serving.api.middleware import LOOPBACK
    from llm_engineering.serving.chat import mount_chat

    settings, asking = platform.settings, load_ask_config(config)
    several = processes > 1
    service = AnswerProcesses(platform, asking, processes=processes) if several else AnswerService(platform, asking)
    app = create_app(
        service,
        keys=key_ring(settings),
        require_keys=require_keys,
        allowance=Allowance(settings.home / "api_usage.json"),
        limits=limits,
        origins=_listed(settings.api_origins),
        hosts=None if require_keys else LOOPBACK | {settings.api_host} | set(_listed(settings.api_hosts)),
    )
    return mount_chat(app, facets=service.facets, titles=service.titles)


def key_ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.home / "api_keys.json")


def check_keys(keys: KeyRing, host: str, *, needs_keys: bool) -> None:
    if needs_keys and not keys.any_active():
        raise ConfigError(
            f"on {host} this server needs API keys, and there is no active one: make one with "
            "`poe serve-keys add TEAM`, or serve on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """Taken before anything is loaded, so that a wrong address is told at once. Raises ConfigError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --host or --port"
        ) from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


# --- keys ------------------------------------------------------------------------------------------------------


@main.group()
def keys() -> None:
    """Who may ask."""


@keys.command()
@click.argument("team")
@click.option("--rate", type=click.IntRange(1), help="Requests a minute.")
@click.option("--quota", type=click.IntRange(1), help="Requests a day (UTC).")
@click.option("--expires", help="A day (2027-01-31) or a time from now (90d, 12h).")
def add(team: str, rate: int | None, quota: int | None, expires: str | None) -> None:
    """Make a key for TEAM and show it, this once."""
    with _told():
        key, secret = key_ring(load_settings()).add(team, rate=rate, quota=quota, expires=_moment(expires))
        click.echo(f"key {key.id} for {key.team}; it is shown only now, so keep it:", err=True)
        click.echo(secret)


@keys.command("list")
def list_() -> None:
    """Every key, without its secret."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    with _told():
        table = Table("key", "team", "state", "a minute", "a day", "made", "ends", box=None)
        now = datetime.now(UTC)
        for key in key_ring(load_settings()).all():
            ends = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
            limits = (str(key.rate or "any"), str(key.quota or "any"))
            table.add_row(key.id, escape(key.team), key.state(now), *limits, f"{key.created:%Y-%m-%d}", ends)
        Console(highlight=False).print(table)


@keys.command()
@click.argument("key_id", metavar="KEY")
def revoke(key_id: str) -> None:
    """End KEY (its id, as `list` shows it) at once; a running server follows."""
    with _told():
        key = key_ring(load_settings()).revoke(key_id)
        click.echo(f"key {key.id} of {key.team} is revoked")


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours as one line and exit code 2."""
    try:
        yield
    except LLMTwinError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    units = {"d": timedelta(days=1), "h": timedelta(hours=1)}
    if text[:-1].isdigit() and text[-1] in units and len(text) < 7:
        return datetime.now(UTC) + int(text[:-1]) * units[text[-1]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--expires {text}: write a day as 2027-01-31, or a time from now as 90d or 12h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
