"""`--dry-run`: what a run would do, from the config and from what is stored. Asks no site and writes nothing."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from llm_engineering.domain.documents import Author
from llm_engineering.domain.ledger import Outcome
from llm_engineering.features.config import AuthorConfig, EndToEndConfig, EtlConfig
from llm_engineering.settings import Settings, load_settings


def show_plan(pipeline: str, config: Any, **switches: bool) -> None:
    """Print it. Raises StoreUnavailable when a store that is there cannot be read."""
    from llm_engineering.bootstrap import open_platform

    settings = load_settings()
    etl = config.etl if isinstance(config, EndToEndConfig) else config if isinstance(config, EtlConfig) else None
    click.echo(f"{pipeline}: the config is fine; nothing was asked and nothing was written")
    click.echo(f"warehouse  {without_password(settings.warehouse_url)}{_new(settings.warehouse_url)}")
    if pipeline != "digital_data_etl":
        click.echo(f"vectors    {without_password(settings.vectors_url)}{_new(settings.vectors_url)}")
        click.echo(f"embedder   {settings.embedder}")
    with open_platform(settings) as twin:
        there = exists(settings.warehouse_url)
        if etl:
            for author in etl.authors:
                _show_author(author, twin.ledger if there else None, retry_failed=switches["retry_failed"])
        if "rebuild" in switches:
            click.echo(_features(twin, settings, there, rebuild=switches["rebuild"]))


def _show_author(author: AuthorConfig, ledger: Any, *, retry_failed: bool) -> None:
    lines = Counter(source_of(link) for link in author.links)
    click.echo(f"{author.name}: " + ", ".join(f"{count} {source}" for source, count in lines.items()))
    for link in author.links:
        click.echo(f"  {source_of(link):16} {link.address}")
    if ledger:
        known = Counter(entry.outcome for entry in ledger.entries(author_id=Author(name=author.name).id))
        if known:
            click.echo("  known links: " + ", ".join(f"{count} {outcome}" for outcome, count in known.items()))
        if retry_failed and known[Outcome.DEAD]:
            click.echo(f"  {known[Outcome.DEAD]} given up, asked again now")


def source_of(link: Any) -> str:
    from llm_engineering.domain.errors import SourceError
    from llm_engineering.domain.links import canonical_link
    from llm_engineering.features.sources import source_for

    if link.source:
        return link.source
    try:
        return source_for(canonical_link(link.address)).name
    except SourceError as error:
        return str(error.reason)


def _features(twin: Any, settings: Settings, warehouse_there: bool, *, rebuild: bool) -> str:
    if not warehouse_there:
        return "features: nothing is stored yet"
    info = None
    if exists(settings.vectors_url):
        reader = twin.vectors.reader()
        info = reader.info()
        reader.close()
    if rebuild or info is None:
        return f"features: {twin.warehouse.count():,} documents would be indexed from nothing"
    waiting = sum(1 for _ in twin.warehouse.changes(info.token))
    return f"features: {waiting:,} changes wait; the index holds {info.chunks:,} passages"


def exists(url: str) -> bool:
    """Whether an embedded store is there (a server always counts): opening one would create it."""
    from llm_engineering.bootstrap import local_path

    scheme = url.partition("://")[0]
    return scheme not in ("sqlite", "edge") or Path(local_path("", url)).exists()


def _new(url: str) -> str:
    return "" if exists(url) else "  (will be created)"


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0] + ':***' if at else ''}{at}{host}{slash}{path.partition('?')[0]}"
