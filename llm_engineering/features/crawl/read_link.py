"""One link read into documents, on a reader thread. Nothing here touches a store."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC

from pydantic import JsonValue

from llm_engineering.domain.documents import Author, Document
from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext
from llm_engineering.domain.text import storable
from llm_engineering.features.crawl.expand_links import Task, as_source_error
from llm_engineering.features.sources import Page, Skipped, Target

BATCH = 64  # documents of one link that travel together
BATCH_CHARACTERS = 1_000_000


@dataclass
class Delivery:
    """Documents of one link. The `last` of a link says how it ended: `error`, `not_modified`, or read whole."""

    task: Task
    documents: list[Document] = field(default_factory=list)
    last: bool = False
    error: SourceError | None = None
    not_modified: bool = False
    etag: str | None = None
    last_modified: str | None = None
    skipped: Counter[str] = field(default_factory=Counter)


def read_link(task: Task, target: Target, *, author: Author, context: FetchContext) -> Iterator[Delivery]:
    """Everything the link gives, in batches of bounded size. Whatever is raised is delivered as the link's error."""
    delivery, characters, found = Delivery(task), 0, 0
    try:
        for item in task.source.crawl(target, context):
            if isinstance(item, Skipped):
                delivery.skipped[item.why] += item.count
                continue
            if len(delivery.documents) == BATCH or characters > BATCH_CHARACTERS:
                yield delivery
                delivery, characters = Delivery(task), 0
            delivery.documents.append(document_of(item, task, author))
            delivery.etag, delivery.last_modified = item.etag, item.last_modified
            characters += len(item.body)
            found += 1
        if not found:
            raise SourceError(task.link, Reason.EMPTY, _why_empty(delivery.skipped), retry=False)
    except NotModified:
        delivery.not_modified = True
    except Exception as error:
        delivery.error = as_source_error(task.link, error)
    delivery.last = True
    yield delivery


def document_of(page: Page, task: Task, author: Author) -> Document:
    """Raises SourceError(BAD_LINK) when the page's own link is none."""
    published = page.published_at
    return Document(
        link=task.link if page.link is None else task.source.canonical(canonical_link(page.link)),
        url=storable(page.url),
        crawled_from=task.link,
        source=task.source.name,
        kind=page.kind or task.source.kind,
        author=author,
        title=storable(page.title),
        published_at=published if published is None or published.tzinfo else published.replace(tzinfo=UTC),
        media_type=page.media_type,
        encoding=page.encoding,
        body=storable(page.body),
        meta={storable(key): _storable_json(value) for key, value in page.meta.items()},
    )


def _storable_json(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(key): _storable_json(inner) for key, inner in value.items()}
        case list():
            return [_storable_json(inner) for inner in value]
    return value


def _why_empty(skipped: Mapping[str, int]) -> str:
    if not skipped:
        return "there is nothing to read here"
    return "nothing to read here but " + ", ".join(f"{count} {why}" for why, count in skipped.items())
