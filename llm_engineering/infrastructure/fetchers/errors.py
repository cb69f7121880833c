"""What can go wrong on the way to a page, before it is known which link it happened to."""

from collections.abc import Iterator
from contextlib import contextmanager

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason


class FetchError(Exception):
    """One attempt failed. `retry`: worth another run; `again`: worth another attempt in this one, after `wait` seconds
    (None: as long as the back-off says). `status` is the HTTP status, if it got that far."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        retry: bool,
        again: bool = False,
        wait: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.retry = reason, detail, retry
        self.again, self.wait, self.status = again, wait, status


class FetchTimeout(Exception):
    """The whole time for a link is used up."""


@contextmanager
def about(link: str) -> Iterator[None]:
    """Trouble inside becomes SourceError of this link."""
    try:
        yield
    except FetchError as trouble:
        raise SourceError(link, trouble.reason, one_line(trouble.detail), retry=trouble.retry) from trouble


def one_line(text: object, limit: int = 240) -> str:
    """Errors of libraries and words of servers, fit for a report: no line breaks, no control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
