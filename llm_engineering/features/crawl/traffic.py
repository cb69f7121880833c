"""What a crawl takes over the network: counted, and each login tried once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ports import Browser, FetchContext, Fetched, Fetcher


class Traffic:
    """`context` fetches as the one it was made of, and counts `bodies` and `bytes`."""

    def __init__(self, context: FetchContext) -> None:
        self.bodies = self.bytes = 0
        self._lock = Lock()
        self._open_browser = context.browser
        self._logins = _LoginAttempts()
        self.context = replace(context, fetch=_CountedFetcher(context.fetch, self.count), browser=self._browser)

    def count(self, answer: Fetched) -> Fetched:
        with self._lock:
            self.bodies += 1
            self.bytes += len(answer.body)
        return answer

    def _browser(self) -> Browser:
        return _CountedBrowser(self._open_browser(), self.count, self._logins)


class _CountedFetcher:
    def __init__(self, inner: Fetcher, count: Callable[[Fetched], Fetched]) -> None:
        self._inner, self._count = inner, count

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = ("text/", "application/xhtml+xml", "application/pdf"),
    ) -> Fetched:
        return self._count(self._inner.get(url, etag=etag, last_modified=last_modified, accept=accept))

    def close(self) -> None:
        self._inner.close()


class _CountedBrowser:
    def __init__(self, inner: Browser, count: Callable[[Fetched], Fetched], logins: "_LoginAttempts") -> None:
        self._inner, self._count, self._logins = inner, count, logins

    def get(self, url: str) -> Fetched:
        return self._count(self._inner.get(url))

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        self._logins.try_once(url, lambda: self._inner.login(url, fields, submit))

    def close(self) -> None:
        self._inner.close()


class _LoginAttempts:
    """One per form and run: a hundred refused ones would lock the account."""

    def __init__(self) -> None:
        self._errors: dict[str, SourceError | None] = {}
        self._lock = Lock()

    def try_once(self, url: str, login: Callable[[], None]) -> None:
        with self._lock:
            if url not in self._errors:
                try:
                    login()
                    self._errors[url] = None
                except SourceError as error:
                    self._errors[url] = error
            if error := self._errors[url]:
                raise SourceError(error.link, error.reason, error.detail, retry=error.retry)
