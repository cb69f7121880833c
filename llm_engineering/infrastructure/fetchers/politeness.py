"""How often a host is asked, and how long to wait before asking again."""

import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 20.0  # seconds


class HostRateLimiter:
    """At most `per_host` requests to one host at a time, their starts at least a delay apart.

    To be shared by every fetcher of a process: a host does not care which author it is asked for.
    """

    def __init__(self, *, per_host: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_host, self._now = per_host, now
        self._lock = threading.Lock()
        self._slots: dict[str, threading.Semaphore] = {}
        self._next_start: dict[str, float] = {}  # host -> earliest start of the next request

    @contextmanager
    def slot(self, host: str, delay: float, *, wait: Callable[[float], object] = time.sleep) -> Generator[None]:
        """Wait for the host's turn, and hold it for one request. `delay` in seconds to the next one's start."""
        with self._lock:
            slot = self._slots.setdefault(host, threading.Semaphore(self._per_host))
        with slot:
            if (seconds := self._reserve_start(host, delay)) > 0:
                wait(seconds)
            yield

    def postpone(self, host: str, seconds: float) -> None:
        """Nobody's next request to this host starts earlier than that."""
        with self._lock:
            self._next_start[host] = max(self._next_start.get(host, 0.0), self._now() + seconds)

    def _reserve_start(self, host: str, delay: float) -> float:
        with self._lock:
            now = self._now()
            start = max(now, self._next_start.get(host, now))
            self._next_start[host] = start + delay
            return start - now


def backoff(attempt: int, first: float, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the given attempt (1, 2, …): doubling, between half and the whole of it at random, so
    that many clients do not come back at once ("equal jitter", AWS Architecture Blog, 2015).

    Not stamina's: it sleeps by itself, so closing a fetcher could not end the wait
    (`test_closing_ends_the_waits_of_other_threads`), and a link's deadline could not refuse to begin it.
    """
    whole = min(LONGEST_BACKOFF, first * 2 ** (attempt - 1))
    return whole * (0.5 + 0.5 * chance())


def retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); None if it says nothing."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
