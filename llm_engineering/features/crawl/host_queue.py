"""Which link is read next: a queue per host, so that a slow or long one never holds up the others."""

from collections import Counter, deque
from threading import Condition
from typing import NamedTuple

from llm_engineering.domain.links import host_of
from llm_engineering.features.crawl.expand_links import Task
from llm_engineering.features.sources import Target


class Assignment(NamedTuple):
    """A link with what it is asked with, for a reader thread."""

    task: Task
    target: Target

    @property
    def host(self) -> str:
        return host_of(self.task.link)


class HostQueue:
    """Links between the thread that finds them and those that read them; at most `limit` at a time.

    `get` gives one of the host with the fewest in flight, the longest waiting first. Safe between threads.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[str, deque[Assignment]] = {}
        self._in_flight: Counter[str] = Counter()
        self._changed = Condition()
        self._complete = self._closed = False

    def reserve(self) -> bool:
        """Wait until there is room for one more; False when nobody will read it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            self._free -= 1
            return not self._closed

    def release(self) -> None:
        """What there was room for needs no reading."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def put(self, assignment: Assignment) -> None:
        """Into the reserved room."""
        with self._changed:
            if not self._closed:
                self._waiting.setdefault(assignment.host, deque()).append(assignment)
                self._changed.notify_all()

    def get(self) -> Assignment | None:
        """Wait for one; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._complete or self._closed)
            if self._closed or not self._waiting:
                return None
            host = min(self._waiting, key=lambda name: self._in_flight[name])
            queue = self._waiting.pop(host)
            assignment = queue.popleft()
            if queue:
                self._waiting[host] = queue  # at the back
            self._in_flight[host] += 1
            return assignment

    def task_done(self, assignment: Assignment) -> None:
        with self._changed:
            self._in_flight[assignment.host] -= 1
            if not self._in_flight[assignment.host]:
                del self._in_flight[assignment.host]
            self._free += 1
            self._changed.notify_all()

    def complete(self) -> None:
        """Nothing more will be put: who waits may go when none is left."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def close(self) -> None:
        """Forget what waits; what is in flight ends by itself."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
