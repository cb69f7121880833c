"""`--dry-run`: what a run would do, line by line, from config and stores. Asks no site and writes nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from llm_engineering.bootstrap import Platform, local_path
from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import SourceError, TokenExpired, WouldEmptyIndex
from llm_engineering.domain.ledger import Outcome
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import Ledger
from llm_engineering.features.config import AuthorConfig, EndToEndConfig, EtlConfig, FeatureConfig, LinkSpec
from llm_engineering.features.indexing.removal_guard import RemovalGuard
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig

Switches = Mapping[str, bool]


def crawl(platform: Platform, config: EtlConfig, switches: Switches) -> Iterator[str]:
    ledger = platform.ledger if store_exists(platform.settings.warehouse_url) else None
    for author in config.authors:
        yield from _author_lines(author, ledger, retry_failed=switches["retry_failed"])


def features(platform: Platform, config: FeatureConfig, switches: Switches) -> Iterator[str]:
    yield f"embedder {platform.settings.embedder}"
    info = None
    if store_exists(platform.settings.vectors_url):
        reader = platform.vectors.reader()
        info = reader.info()
        reader.close()
    if not store_exists(platform.settings.warehouse_url):
        yield "features: nothing is stored yet"
        if info and info.chunks and not switches.get("allow_empty"):
            yield f"features: an index of {info.chunks:,} passages is, so this would be refused without --allow-empty"
        return
    if info is not None and not switches.get("allow_empty"):
        try:
            RemovalGuard(platform.warehouse, platform.vectors, rebuild=switches["rebuild"]).check_warehouse()
        except WouldEmptyIndex as error:
            yield f"features: this would be refused: {error}"
            return
    if switches["rebuild"] or info is None:
        yield f"features: {platform.warehouse.count():,} documents would be indexed from nothing"
    else:
        try:
            waiting = f"{sum(1 for _ in platform.warehouse.changes(info.token)):,} changes wait"
        except TokenExpired:
            waiting = f"{platform.warehouse.count():,} documents would be compared"
        yield f"features: {waiting}; the index holds {info.chunks:,} passages"


def end_to_end(platform: Platform, config: EndToEndConfig, switches: Switches) -> Iterator[str]:
    yield from crawl(platform, config.etl, switches)
    yield from features(platform, config.features, switches)


def evaluation(platform: Platform, config: RetrievalEvaluationConfig, switches: Switches) -> Iterator[str]:
    yield f"embedder {platform.settings.embedder}"
    questions = f"at most {config.queries:,} questions from headings, titles and sentences"
    if config.generated:
        questions += f", and {config.generated:,} by {platform.settings.language_model}"
    yield f"{questions}, over at most {config.chunks:,} passages"


def _author_lines(author: AuthorConfig, ledger: Ledger | None, *, retry_failed: bool) -> Iterator[str]:
    lines = Counter(source_name(link) for link in author.links)
    yield f"{author.name}: " + ", ".join(f"{count} {source}" for source, count in lines.items())
    for link in author.links:
        yield f"  {source_name(link):16} {link.address}"
    if ledger:
        known = Counter(entry.outcome for entry in ledger.entries(author_id=Author(name=author.name).id))
        if known:
            yield "  known links: " + ", ".join(f"{count} {outcome}" for outcome, count in known.items())
        if retry_failed and known[Outcome.DEAD]:
            yield f"  {known[Outcome.DEAD]} given up, asked again now"


def source_name(link: LinkSpec) -> str:
    """Of the source that reads the link; the reason where nothing does."""
    from llm_engineering.features.sources import source_for

    if link.source:
        return link.source
    try:
        return source_for(canonical_link(link.address)).name
    except SourceError as error:
        return str(error.reason)


def store_exists(url: str) -> bool:
    """Whether an embedded store is there (a server always counts): opening one would create it."""
    scheme = url.partition("://")[0]
    return scheme not in ("sqlite", "edge") or Path(local_path("", url)).exists()
