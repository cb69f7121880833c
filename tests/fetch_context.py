"""What a source may reach for in a test: what the test gives. Reaching for anything else fails the test."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Browser, Checkout, FetchContext, Fetched, Fetcher, Repositories
from llm_engineering.infrastructure.sandbox import InProcess


class Unreachable:
    """Plays the fetcher, the browser and the repositories of a source that needs none."""

    def get(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None, accept: Sequence[str] = ()
    ) -> Fetched:
        pytest.fail(f"{url} was asked for")

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        pytest.fail(f"somebody logged in at {url}")

    def head(self, url: str, *, branch: str | None = None) -> str:
        pytest.fail(f"the head of {url} was asked for")

    def checkout(self, url: str, *, branch: str | None = None) -> AbstractContextManager[Checkout]:
        pytest.fail(f"{url} was checked out")

    def close(self) -> None:
        pass


class Answering(Unreachable):
    """Plays a fetcher that answers every address with what `answer` makes of it."""

    def __init__(self, answer: Callable[[str], Fetched]) -> None:
        self.answer = answer

    def get(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None, accept: Sequence[str] = ()
    ) -> Fetched:
        return self.answer(url)


UNREACHABLE = Unreachable()


def no_browser() -> Browser:
    """As on a machine without one."""
    raise SourceError("browser", Reason.BROWSER, "no Chromium found", retry=False)


def fetch_context(
    *,
    fetch: Fetcher = UNREACHABLE,
    browser: Callable[[], Browser] = lambda: pytest.fail("a browser was started"),
    repositories: Repositories = UNREACHABLE,
    credentials: Callable[[str], tuple[str, str] | None] = lambda service: None,
    max_file_bytes: int | None = None,
) -> FetchContext:
    return FetchContext(
        fetch=fetch,
        browser=browser,
        repositories=repositories,
        sandbox=InProcess(),
        credentials=credentials,
        max_file_bytes=max_file_bytes,
    )


NOTHING = fetch_context()
