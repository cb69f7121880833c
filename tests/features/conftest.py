"""Reading pages without a network: a fetcher and a browser that know a few addresses by heart."""

import pytest
from fetch_context import fetch_context, no_browser

from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched


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


@pytest.fixture
def web():
    return WrittenPages()


@pytest.fixture
def rendered():
    """What a browser would show."""
    return WrittenPages()


@pytest.fixture
def context(web, rendered):
    return fetch_context(fetch=web, browser=lambda: rendered)


@pytest.fixture
def context_without_browser(web):
    return fetch_context(fetch=web, browser=no_browser)
