"""How often a host is asked."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


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
