"""Who is read next: one lane per host, so that a slow or long one never holds up the others."""

from collections import Counter, deque
from threading import Condition
from typing import NamedTuple

from llm_engineering.domain.links import host_of
from llm_engineering.features.crawl.expand_links import Task
from llm_engineering.features.sources import Target


class Assignment(NamedTuple):
    task: Task
    target: Target

    @property
    def host(self) -> str:
        return host_of(self.task.link)


class HostQueue:
    """Links between the one who finds them and those who read them; at most `limit` at a time.

    `take` gives one of the host with the fewest in flight, the longest waiting first. Safe between threads.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[str, deque[Assignment]] = {}
        self._in_flight: Counter[str] = Counter()
        self._changed = Condition()
        self._full = self._closed = False

    def admit(self) -> bool:
        """Wait until there is room for one more; False when nobody will read it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            self._free -= 1
            return not self._closed

    def dismiss(self) -> None:
        """What was admitted needs no reading."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def put(self, one: Assignment) -> None:
        with self._changed:
            if not self._closed:
                self._waiting.setdefault(one.host, deque()).append(one)
                self._changed.notify_all()

    def take(self) -> Assignment | None:
        """Wait for one; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._full or self._closed)
            if self._closed or not self._waiting:
                return None
            host = min(self._waiting, key=lambda name: self._in_flight[name])
            lane = self._waiting.pop(host)
            one = lane.popleft()
            if lane:
                self._waiting[host] = lane  # at the back
            self._in_flight[host] += 1
            return one

    def done(self, one: Assignment) -> None:
        with self._changed:
            self._in_flight[one.host] -= 1
            if not self._in_flight[one.host]:
                del self._in_flight[one.host]
            self._free += 1
            self._changed.notify_all()

    def fill(self) -> None:
        """Nothing more will be put: who waits may go when none is left."""
        with self._changed:
            self._full = True
            self._changed.notify_all()

    def close(self) -> None:
        """Forget what waits; what is in flight ends by itself."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
