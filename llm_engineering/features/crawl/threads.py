"""The threads of a crawl: one finds links, many read them, and all their events arrive on the caller's thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from typing import NamedTuple

from llm_engineering.features.crawl.expand_links import Expanded
from llm_engineering.features.crawl.host_queue import Assignment, HostQueue
from llm_engineering.features.crawl.read_link import Delivery

QUEUED_PER_READER = 16  # links known but not yet read: enough to find other hosts behind a long one
POLL_SECONDS = 0.2  # between two looks around while nothing arrives


class _ThreadEnd(NamedTuple):
    """A thread is done, or fell over `error`."""

    finder: bool = False
    error: BaseException | None = None


class CrawlThreads:
    """Use as a context manager, iterate over `events`, and answer each one but a Delivery with `submit` or `skip`.

    Memory is bounded: the finder waits while too many links are unread, the readers while too much is unstored.
    Leaving the block early forgets what waits and lets what is in flight end by itself.
    """

    def __init__(
        self,
        links: Iterator[Expanded],
        read: Callable[[Assignment], Iterator[Delivery]],
        *,
        concurrency: int,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._links, self._read, self._stop = links, read, stop
        self._queue = HostQueue(concurrency * QUEUED_PER_READER)
        self._events: Queue[Expanded | Delivery | _ThreadEnd] = Queue(maxsize=concurrency * 2)
        self._running = concurrency + 1
        self._threads = ThreadPoolExecutor(self._running, thread_name_prefix="crawl")
        self._futures: list[Future[None]] = []
        self._abandoned = False
        self.stopped = False

    def __enter__(self) -> "CrawlThreads":
        work = [self._find_links] + [self._read_links] * (self._running - 1)
        self._futures = [self._threads.submit(one) for one in work]
        return self

    def __exit__(self, *exception: object) -> None:
        self._abandoned = True
        self._queue.close()
        while not all(future.done() for future in self._futures):
            with suppress(Empty):  # read on, so that no thread waits for ever to put its event
                self._events.get(timeout=POLL_SECONDS)
        self._threads.shutdown()

    def events(self) -> Iterator[Expanded | Delivery]:
        """Until all is read or stopped. What a thread fell over is raised here."""
        while self._running:
            if self._stop and not self.stopped and self._stop():
                self.stop()
            try:
                event = self._events.get(timeout=POLL_SECONDS if self._stop else None)
            except Empty:
                continue
            if isinstance(event, _ThreadEnd):
                self._running -= 1
                if event.finder:
                    self._queue.complete()
                if event.error:
                    raise event.error
            else:
                yield event

    @property
    def idle(self) -> bool:
        """No event is waiting right now."""
        return self._events.empty()

    def submit(self, assignment: Assignment) -> None:
        self._queue.put(assignment)

    def skip(self) -> None:
        self._queue.release()

    def stop(self) -> None:
        """Read no further links; what is in flight still arrives."""
        self.stopped = True
        self._queue.close()

    def _find_links(self) -> None:
        try:
            while self._queue.reserve() and (item := next(self._links, None)) is not None:
                self._events.put(item)
        except BaseException as error:
            self._events.put(_ThreadEnd(finder=True, error=error))
        else:
            self._events.put(_ThreadEnd(finder=True))

    def _read_links(self) -> None:
        try:
            while (assignment := self._queue.get()) is not None:
                self._deliver(assignment)
        except BaseException as error:
            self._events.put(_ThreadEnd(error=error))
        else:
            self._events.put(_ThreadEnd())

    def _deliver(self, assignment: Assignment) -> None:
        try:
            for delivery in self._read(assignment):
                self._events.put(delivery)
                if self._abandoned:
                    return
        finally:
            self._queue.task_done(assignment)
