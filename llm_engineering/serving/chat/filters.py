"""What a reader chose, as a `Where`; and what there is to choose from."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from llm_engineering.domain.chunks import Chunk, Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import BadQuestion

MAX_CHOSEN = 50  # authors, kinds, sources; as many as the API takes


def where_of(
    authors: Sequence[str] | None, kinds: Sequence[str] | None, sources: Sequence[str] | None,
    since: str | None, until: str | None,
) -> Where | None:  # fmt: skip
    """Gradio gives None for what was left empty. Both days belong to it. Raises BadQuestion for a day that is none."""
    if max(map(len, (authors or (), kinds or (), sources or ()))) > MAX_CHOSEN:
        raise BadQuestion(f"choose at most {MAX_CHOSEN} of each")
    first, last = _day(since, "from"), _day(until, "to", after=1)
    if first and last and last <= first:
        raise BadQuestion(f"the dates are the wrong way round: from {since} to {until}")
    where = Where(
        author_id=tuple(authors or ()) or None,
        kind=tuple(map(_kind, kinds or ())) or None,
        source=tuple(sources or ()) or None,
        published_from=first,
        published_to=last,
    )
    return where if where != Where() else None


def filter_choices(facets: Facets) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Authors as (name, id), kinds, sources: each in an order a reader can find things in."""
    authors = sorted(((name, id) for id, name in facets.authors.items()), key=lambda one: one[0].casefold())
    return authors, sorted(map(str, facets.kinds)), sorted(facets.sources)


def example_titles(chunks: Iterable[Chunk], limit: int) -> tuple[str, ...]:
    """The first different titles worth asking about, for example questions."""
    titles: dict[str, None] = {}
    for chunk in chunks:
        title = " ".join(chunk.title.split())
        if 12 <= len(title) <= 80:
            titles[title] = None
        if len(titles) == limit:
            break
    return tuple(titles)


def example_question(title: str) -> str:
    """A title that is a question already stays one."""
    return title if title.endswith("?") else f"What does “{title}” say?"


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        raise BadQuestion(f"there is no kind {text[:50]!r}; there are {', '.join(Kind)}") from None


def _day(text: str | None, name: str, *, after: int = 0) -> datetime | None:
    """Its beginning, or that of the day so many days `after` it."""
    text = (text or "").strip()
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=after)
    except (ValueError, OverflowError):
        raise BadQuestion(f"the date in “{name}” is no day: write it as 2026-01-31") from None
