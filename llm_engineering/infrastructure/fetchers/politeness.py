"""How often a host is asked, and how long to wait before asking again."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 20.0  # seconds


class Turns:
    """At most `per_host` requests to one host at a time, their starts at least a delay apart.

    To be shared by every fetcher of a process: a host does not care which author it is asked for.
    """

    def __init__(self, *, per_host: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_host, self._now = per_host, now
        self._lock = threading.Lock()
        self._slots: dict[str, threading.Semaphore] = {}
        self._next: dict[str, float] = {}  # host -> earliest start of the next request

    @contextmanager
    def turn(self, host: str, delay: float, *, wait: Callable[[float], object] = time.sleep) -> Iterator[None]:
        with self._lock:
            slot = self._slots.setdefault(host, threading.Semaphore(self._per_host))
        with slot:
            if (seconds := self._reserve(host, delay)) > 0:
                wait(seconds)
            yield

    def hold(self, host: str, seconds: float) -> None:
        """Nobody's next request to this host starts earlier than that."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), self._now() + seconds)

    def _reserve(self, host: str, delay: float) -> float:
        with self._lock:
            now = self._now()
            start = max(now, self._next.get(host, now))
            self._next[host] = start + delay
            return start - now


def backoff(attempt: int, first: float, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the given attempt (1, 2, …): doubling, between half and the whole of it at random, so
    that many clients do not come back at once ("equal jitter", AWS Architecture Blog, 2015)."""
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
