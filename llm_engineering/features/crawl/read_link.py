"""One link read into documents, on a worker thread. Nothing here touches a store."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from threading import Lock

from llm_engineering.domain.documents import Author, Document
from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import Browser, FetchContext, Fetched, Fetcher
from llm_engineering.features.crawl.expand_links import Task
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


def read(task: Task, target: Target, *, author: Author, context: FetchContext) -> Iterator[Delivery]:
    """Everything the link gives, in batches of bounded size. Expected trouble is delivered, a bug is raised."""
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
            raise SourceError(task.link, Reason.EMPTY, _nothing(delivery.skipped), retry=False)
    except NotModified:
        delivery.not_modified = True
    except SourceError as error:
        delivery.error = error
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
        meta=_storable_json(page.meta),
    )


def storable(text: str) -> str:
    """UTF-8 can say it: a surrogate pair becomes its character, a lone surrogate U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _storable_json(value):
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(key): _storable_json(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_storable_json(inner) for inner in value]
    return value


def _nothing(skipped: Mapping[str, int]) -> str:
    if not skipped:
        return "there is nothing to read here"
    return "nothing to read here but " + ", ".join(f"{count} {why}" for why, count in skipped.items())


class Traffic:
    """Counts what came over the network, and keeps a refused login from being tried for every link."""

    def __init__(self, context: FetchContext) -> None:
        self.bodies = self.bytes = 0
        self._lock = Lock()
        self._open = context.browser
        self.context = replace(context, fetch=_CountedFetcher(context.fetch, self.add), browser=self._browser)
        self._logins = _Logins()

    def add(self, answer: Fetched) -> Fetched:
        with self._lock:
            self.bodies += 1
            self.bytes += len(answer.body)
        return answer

    def _browser(self) -> Browser:
        return _CountedBrowser(self._open(), self.add, self._logins)


class _CountedFetcher:
    def __init__(self, inner: Fetcher, count: Callable[[Fetched], Fetched]) -> None:
        self._inner, self._count = inner, count

    def get(self, url: str, **how) -> Fetched:
        return self._count(self._inner.get(url, **how))

    def close(self) -> None:
        self._inner.close()


class _CountedBrowser:
    def __init__(self, inner: Browser, count: Callable[[Fetched], Fetched], logins: "_Logins") -> None:
        self._inner, self._count, self._logins = inner, count, logins

    def get(self, url: str) -> Fetched:
        return self._count(self._inner.get(url))

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        self._logins.once(url, lambda: self._inner.login(url, fields, submit))

    def close(self) -> None:
        self._inner.close()


class _Logins:
    """One try per form and run: a hundred refused ones would lock the account."""

    def __init__(self) -> None:
        self._tried: dict[str, SourceError | None] = {}
        self._lock = Lock()

    def once(self, url: str, login: Callable[[], None]) -> None:
        with self._lock:
            if url not in self._tried:
                try:
                    login()
                    self._tried[url] = None
                except SourceError as error:
                    self._tried[url] = error
            if error := self._tried[url]:
                raise SourceError(error.link, error.reason, error.detail, retry=error.retry)
