"""The threads of a crawl: one finds links, many read them, and everything they say arrives on the caller's thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from typing import NamedTuple

from llm_engineering.features.crawl.expand_links import ListRead, Task, UnreadableLink
from llm_engineering.features.crawl.host_queue import Assignment, HostQueue
from llm_engineering.features.crawl.read_link import Delivery

AHEAD = 16  # links known but not yet read, per reader: enough to find other hosts behind a long one
LISTEN = 0.2  # seconds between two looks around while nothing arrives


class _Left(NamedTuple):
    """A thread is done, or fell over `error`."""

    finder: bool = False
    error: BaseException | None = None


class CrawlThreads:
    """Use as a context manager, iterate over `events`, and answer every Task with `go` or `skip`.

    Memory is bounded: the finder waits while too many links are unread, the readers while too much is unstored.
    Leaving the block early forgets what waits and lets what is in flight end by itself.
    """

    def __init__(
        self,
        found: Iterator[Task | UnreadableLink | ListRead],
        read: Callable[[Assignment], Iterator[Delivery]],
        *,
        concurrency: int,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._found, self._read, self._stop = found, read, stop
        self._queue = HostQueue(concurrency * AHEAD)
        self._events: Queue = Queue(maxsize=concurrency * 2)
        self._running = concurrency + 1
        self._threads = ThreadPoolExecutor(self._running, thread_name_prefix="crawl")
        self._futures: list[Future[None]] = []
        self._abandoned = False
        self.stopped = False

    def __enter__(self) -> "CrawlThreads":
        work = [self._find] + [self._work] * (self._running - 1)
        self._futures = [self._threads.submit(one) for one in work]
        return self

    def __exit__(self, *exception: object) -> None:
        self._abandoned = True
        self._queue.close()
        while not all(future.done() for future in self._futures):
            with suppress(Empty):  # read on, so that nobody waits for ever to be heard
                self._events.get(timeout=LISTEN)
        self._threads.shutdown()

    def events(self) -> Iterator[Task | UnreadableLink | ListRead | Delivery]:
        """Until all is read or stopped. What a thread fell over is raised here."""
        while self._running:
            if self._stop and not self.stopped and self._stop():
                self.stop()
            try:
                event = self._events.get(timeout=LISTEN if self._stop else None)
            except Empty:
                continue
            if isinstance(event, _Left):
                self._running -= 1
                if event.finder:
                    self._queue.fill()
                if event.error:
                    raise event.error
            else:
                yield event

    @property
    def quiet(self) -> bool:
        """Nothing is waiting to be heard right now."""
        return self._events.empty()

    def go(self, one: Assignment) -> None:
        self._queue.put(one)

    def skip(self) -> None:
        self._queue.dismiss()

    def stop(self) -> None:
        """Read no further links; what is in flight still arrives."""
        self.stopped = True
        self._queue.close()

    def _find(self) -> None:
        try:
            while self._queue.admit() and (item := next(self._found, None)) is not None:
                self._events.put(item)
        except BaseException as error:
            self._events.put(_Left(finder=True, error=error))
        else:
            self._events.put(_Left(finder=True))

    def _work(self) -> None:
        try:
            while (one := self._queue.take()) is not None:
                self._deliver(one)
        except BaseException as error:
            self._events.put(_Left(error=error))
        else:
            self._events.put(_Left())

    def _deliver(self, one: Assignment) -> None:
        try:
            for delivery in self._read(one):
                self._events.put(delivery)
                if self._abandoned:
                    return
        finally:
            self._queue.done(one)
