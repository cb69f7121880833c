"""Reading pages without a network: a fetcher and a browser that know a few addresses by heart."""

from contextlib import AbstractContextManager

import pytest

from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Checkout, FetchContext, Fetched


class WrittenPages:
    """Keeps answers by address, and remembers what was asked. Plays both the fetcher and the browser."""

    def __init__(self) -> None:
        self.answers: dict[str, Fetched | SourceError] = {}
        self.asked: list[str] = []

    def put(self, url: str, body: str | bytes, media_type: str = "text/html", *, at: str = "", **validators) -> None:
        data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        text = body if isinstance(body, str) else body.decode("utf-8", "replace")
        self.answers[url] = Fetched(at or url, 200, media_type, text, data, **validators)

    def fail(self, url: str, reason: Reason, detail: str = "", *, retry: bool = False) -> None:
        self.answers[url] = SourceError(url, reason, detail, retry=retry)

    def get(self, url, *, etag=None, last_modified=None, accept=()):
        self.asked.append(url)
        answer = self.answers.get(url) or SourceError(url, Reason.NOT_FOUND, "HTTP 404", retry=False)
        if isinstance(answer, SourceError):
            raise answer
        if etag and etag == answer.etag:
            raise NotModified(url)
        return answer

    def login(self, url, fields, submit):
        raise SourceError(url, Reason.LOGIN, "there is no form", retry=False)

    def close(self):
        pass


class NoRepositories:
    """For sources that ask for none."""

    def head(self, url: str, *, branch: str | None = None) -> str:
        raise SourceError(url, Reason.GIT, "there is no repository", retry=False)

    def checkout(self, url: str, *, branch: str | None = None) -> AbstractContextManager[Checkout]:
        raise SourceError(url, Reason.GIT, "there is no repository", retry=False)


@pytest.fixture
def web():
    return WrittenPages()


@pytest.fixture
def rendered():
    """What a browser would show."""
    return WrittenPages()


@pytest.fixture
def context(web, rendered):
    return FetchContext(fetch=web, browser=lambda: rendered, repositories=NoRepositories())


@pytest.fixture
def reach_without_browser(web):
    def none():
        raise SourceError("browser", Reason.BROWSER, "no Chromium found", retry=False)

    return FetchContext(fetch=web, browser=none, repositories=NoRepositories())
