"""The whole time one link may take, and waits that end with it."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout

T = TypeVar("T")


class Deadline:
    """`seconds` from now. Waiting for the host's turn does not count: see `pause`."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above zero. Raises FetchTimeout."""
        seconds = self._ends - time.monotonic()
        if seconds <= 0:
            raise FetchTimeout
        return seconds

    def allows(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._ends

    @contextmanager
    def pause(self) -> Generator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._ends += time.monotonic() - began


# httpcore hands a connection no word about the request it serves, but serves it in the asking thread.
_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline_scope(deadline: Deadline | None) -> Generator[None]:
    """The network waits inside end with this deadline; None: with none."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def limited_wait(timeout: float | None) -> Generator[float | None]:
    """The seconds to wait for one thing: the timeout, or what is left of the whole; FetchTimeout when that was it."""
    import httpcore

    deadline = _current.get()
    if deadline is None:
        yield timeout
        return
    seconds = deadline.left()
    try:
        yield seconds if timeout is None else min(timeout, seconds)
    except httpcore.TimeoutException:
        deadline.left()
        raise


def with_timeout(work: Callable[[], T], seconds: float | None) -> T:
    """Run what cannot be interrupted (the system's resolver) and stop waiting for it after `seconds`."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        if future.done():  # the work's own
            raise
        detail = "the name server gave no answer in time"
        raise FetchError(Reason.DNS, detail, retry=True, retry_now=True) from None
