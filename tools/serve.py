"""`poe serve [--host HOST] [--port PORT]`: the API and the chat page. `poe serve-keys add|list|revoke`: who may ask.

Exit code 0: it was told to stop, and finished what it had begun. 2: a setting or the command line is wrong, or the
address is taken.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.serving.api.keys import key_ring
from llm_engineering.settings import load_settings
from tools.terminal import plain, say


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
    from llm_engineering.operate.configs import load_ask_config
    from llm_engineering.serving.server import serve

    with _errors_as_exit_code():
        settings = load_settings()
        given = {"api_host": host, "api_port": port}
        settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
        serve(settings, load_ask_config(config), require_keys=require_keys)


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
    with _errors_as_exit_code():
        key, secret = key_ring(load_settings()).add(team, rate=rate, quota=quota, expires=_moment(expires))
        say(f"key {key.id} for {key.team}; it is shown only now, so keep it:", err=True)
        say(secret)


@keys.command("list")
def list_() -> None:
    """Every key, without its secret."""
    from rich.console import Console
    from rich.table import Table

    with _errors_as_exit_code():
        table = Table("key", "team", "state", "a minute", "a day", "made", "ends", box=None)
        now = datetime.now(UTC)
        for key in key_ring(load_settings()).all():
            ends = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
            limits = (str(key.rate or "any"), str(key.quota or "any"))
            table.add_row(key.id, plain(key.team), key.state(now), *limits, f"{key.created:%Y-%m-%d}", ends)
        Console(highlight=False).print(table)


@keys.command()
@click.argument("key_id", metavar="KEY")
def revoke(key_id: str) -> None:
    """End KEY (its id, as `list` shows it) at once; a running server follows."""
    with _errors_as_exit_code():
        key = key_ring(load_settings()).revoke(key_id)
        say(f"key {key.id} of {key.team} is revoked")


@contextmanager
def _errors_as_exit_code() -> Generator[None]:
    """Errors of ours as one line and exit code 2."""
    try:
        yield
    except LLMTwinError as error:
        say(error, err=True)
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
