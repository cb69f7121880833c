"""An author's config lines into links to read, one at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from loguru import logger
from pydantic import JsonValue

from llm_engineering.domain.errors import ConfigError, OverBudget, SourceError, raised_at
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import LedgerEntry, Outcome, Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext
from llm_engineering.domain.text import storable
from llm_engineering.features.config import AuthorConfig, LinkSpec
from llm_engineering.features.sources import Source, source_for, source_named

LONGEST_DETAIL = 500  # characters
LONGEST_LINK = 2_000  # characters of an address that is no link
LIMIT = "limit"  # the one option every source with `discover` has: read no more links than this


class LinkRef(NamedTuple):
    """Which link a ledger entry is about: its key, as it was given, and the name of its source."""

    link: str
    url: str
    source: str


class Task(NamedTuple):
    """One link to read, once, however often and however spelled the config names it."""

    link: str  # canonical
    url: str  # as it was given
    source: Source
    options: Mapping[str, JsonValue] = {}
    found_in: str = ""  # the line whose list named it

    @property
    def ref(self) -> LinkRef:
        return LinkRef(self.link, self.url, self.source.name)


class UnreadableLink(NamedTuple):
    """A config line, or a link a feed named, that is no link to read. `link` is its key in the ledger."""

    link: str
    source: str
    error: SourceError

    @property
    def ref(self) -> LinkRef:
        return LinkRef(self.link, self.link, self.source)


class ListRead(NamedTuple):
    """A place that lists links was read to its end; an earlier failure of it is over."""

    link: str
    source: str

    @property
    def ref(self) -> LinkRef:
        return LinkRef(self.link, self.link, self.source)


Expanded = Task | UnreadableLink | ListRead


def expand_links(
    author: AuthorConfig,
    *,
    context: FetchContext,
    sources: Sequence[Source],
    known: Callable[[], Iterable[LedgerEntry]],
) -> Iterator[Expanded]:
    """In the order of the config, lazily. Only digests of the links are kept, so a million links fit.

    Last come the links that a list once named and names no more, out of the `known`: somebody has to notice that they
    are gone.

    Raises ConfigError, before anything is asked, for an unknown source or option and for one address listed with
    two sets of options.
    """
    _check_lines(author, sources)
    return _without_repeats(_expand_lines(author, context, sources, known))


def _check_lines(author: AuthorConfig, sources: Sequence[Source]) -> None:
    seen: dict[tuple[str | None, str], LinkSpec] = {}
    for spec in author.links:
        try:
            if spec.source:
                _check_options(spec, source_named(spec.source, sources))
            if seen.setdefault(_identity(spec, sources), spec).options != spec.options:
                raise ConfigError("listed twice with different options; write it once")
        except ConfigError as error:
            raise ConfigError(f"{author.name}, links, {spec.source or 'link'}: {spec.address}: {error}") from None


def _check_options(spec: LinkSpec, source: Source) -> None:
    known = source.options + ((LIMIT,) if source.discover else ())
    if unknown := sorted(spec.options.keys() - set(known)):
        raise ConfigError(f"no option {', '.join(unknown)}; known: {', '.join(known) or 'none'}")
    _limit_of(spec)


def _limit_of(spec: LinkSpec) -> int | None:
    limit = spec.options.get(LIMIT)
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1):
        return limit
    raise ConfigError(f"limit is a whole number of links from 1 up, not {limit!r}")


def _identity(spec: LinkSpec, sources: Sequence[Source]) -> tuple[str | None, str]:
    source = source_named(spec.source, sources) if spec.source else None
    if source is None or source.link_of is None:
        return spec.source, spec.address
    try:
        return spec.source, source.link_of(spec.address, spec.options)
    except SourceError:
        return spec.source, spec.address


def _without_repeats(items: Iterator[Expanded]) -> Iterator[Expanded]:
    seen: set[int] = set()
    for item in items:
        if not isinstance(item, ListRead):
            digest = int(content_hash(item.link)[:16], 16)
            if digest in seen:
                continue
            seen.add(digest)
        yield item


def _expand_lines(
    author: AuthorConfig, context: FetchContext, sources: Sequence[Source], known: Callable[[], Iterable[LedgerEntry]]
) -> Iterator[Expanded]:
    read_whole: dict[str, tuple[Source, Mapping[str, JsonValue]]] = {}
    for spec in author.links:
        for item in _expand_line(spec, context, sources):
            if isinstance(item, ListRead) and LIMIT not in spec.options:
                source = source_named(item.source, sources)
                if not source.latest_only:
                    read_whole[item.link] = source, spec.options
            yield item
    if read_whole:
        for entry in known():
            if entry.found_in in read_whole and entry.documents and entry.outcome is not Outcome.DEAD:
                yield Task(entry.link, entry.url, *read_whole[entry.found_in], entry.found_in)


def _expand_line(spec: LinkSpec, context: FetchContext, sources: Sequence[Source]) -> Iterator[Expanded]:
    if spec.source is None:
        yield _task_of_link(spec.address, sources)
        return
    source = source_named(spec.source, sources)
    options = {key: value for key, value in spec.options.items() if key != LIMIT}
    if source.discover is None:
        yield _task_of_source(spec.address, source, options)
        return
    key, found = f"{source.name}:{spec.address}", 0
    try:
        for url in islice(source.discover(spec.address, context), _limit_of(spec)):
            found += 1
            yield _task_of_source(url, source, options, found_in=key)
        if not found:
            raise SourceError(key, Reason.EMPTY, "no links found here; is the address right?", retry=True)
        yield ListRead(key, source.name)
    except Exception as error:
        yield UnreadableLink(key, source.name, as_source_error(key, error))


def as_source_error(link: str, error: Exception) -> SourceError:
    """What nobody foresaw is the link's own failure, too: the rest of the run goes on. The log has the traceback."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, OverBudget):
        return SourceError(link, Reason.OVER_BUDGET, storable(str(error)), retry=False)
    detail = storable(" ".join(f"{type(error).__name__} at {raised_at(error)}: {error}".split())[:LONGEST_DETAIL])
    logger.opt(exception=error).error("{} is not read: {}", link, detail)
    return SourceError(link, Reason.INTERNAL_ERROR, detail, retry=False)


def _task_of_link(address: str, sources: Sequence[Source]) -> Task | UnreadableLink:
    try:
        link = canonical_link(address)
        source = source_for(link, sources)
        return Task(source.canonical(link), address.strip(), source)
    except Exception as error:
        return _unreadable(address, "", error)


def _task_of_source(
    address: str, source: Source, options: Mapping[str, JsonValue], *, found_in: str = ""
) -> Task | UnreadableLink:
    try:
        if source.link_of:
            return Task(source.link_of(address, options), address, source, options)
        return Task(source.canonical(canonical_link(address)), address.strip(), source, options, found_in)
    except Exception as error:
        return _unreadable(address, source.name, error)


def _unreadable(address: str, source: str, error: Exception) -> UnreadableLink:
    told = as_source_error(storable(address.strip())[:LONGEST_LINK], error)
    return UnreadableLink(told.link, source, told)
