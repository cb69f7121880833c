"""Every source there is, in the order in which they are asked whether a link is theirs. See docs/add-a-source.md."""

from collections.abc import Sequence

from llm_engineering.domain.errors import ConfigError, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.features.source import Page, Skipped, Source, Target
from llm_engineering.features.sources import (
    github,
    langchain_loader,
    linkedin,
    local_files,
    medium,
    substack,
    web_article,
)

__all__ = ["SOURCES", "Page", "Skipped", "Source", "Target", "link_identity", "source_for", "source_named"]

SOURCES: tuple[Source, ...] = (
    medium.SOURCE,
    substack.SOURCE,
    github.SOURCE,
    linkedin.SOURCE,
    local_files.SOURCE,
    langchain_loader.SOURCE,
    web_article.SOURCE,  # any page, so it comes last
)


def source_for(link: str, sources: Sequence[Source] = SOURCES) -> Source:
    """The first source that owns a canonical link. Raises SourceError(BAD_LINK) when none does."""
    for source in sources:
        if source.owns(link):
            return source
    raise SourceError(link, Reason.BAD_LINK, f"no source reads {link.partition(':')[0]}: links", retry=False)


def source_named(name: str, sources: Sequence[Source] = SOURCES) -> Source:
    """Raises ConfigError that lists the known ones."""
    for source in sources:
        if source.name == name:
            return source
    raise ConfigError(f"no source is called {name!r}; known: {', '.join(source.name for source in sources)}")


def link_identity(source: str | None, address: str) -> tuple[str, str]:
    """Two spellings of one link are one; a handle or a feed is the same only under the same source."""
    try:
        link = canonical_link(address)
        return "", source_for(link).canonical(link)
    except SourceError:
        return source or "", address.strip()
