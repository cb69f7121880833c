"""What can go wrong on the way to a page, before it is known which link it happened to."""

from collections.abc import Generator
from contextlib import contextmanager

from llm_engineering.domain.errors import LLMTwinError, SourceError, raised_at
from llm_engineering.domain.ledger import Reason


class FetchError(Exception):
    """One attempt failed. `retry`: worth another run; `retry_now`: worth another attempt in this one, after
    `retry_after` seconds (None: as long as the back-off says). `status` is the HTTP status, if it got that far."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        retry: bool,
        retry_now: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.retry = reason, detail, retry
        self.retry_now, self.retry_after, self.status = retry_now, retry_after, status


class FetchTimeout(Exception):
    """The whole time for a link is used up."""


@contextmanager
def as_source_error(link: str) -> Generator[None]:
    """A FetchError inside becomes a SourceError of this link, and so does what nobody foresaw: it must not cost more
    than the link."""
    try:
        yield
    except FetchError as error:
        raise SourceError(link, error.reason, printable_line(error.detail), retry=error.retry) from error
    except LLMTwinError:
        raise
    except OSError as error:  # no space, no more files, a folder that cannot be written
        raise SourceError(
            link, Reason.INTERNAL_ERROR, printable_line(f"on this machine: {error}"), retry=True
        ) from error
    except Exception as error:
        detail = printable_line(f"{type(error).__name__}: {error}", 120)
        where = f"{detail} (a bug, at {raised_at(error)})"
        raise SourceError(link, Reason.INTERNAL_ERROR, where, retry=True) from error


def printable_line(text: object, limit: int = 240) -> str:
    """Errors of libraries and words of servers, fit for a report: no line breaks, no control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
