"""Blocking work off the event loop: a bounded number of threads, a bounded queue, and a way to stop."""

import asyncio
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from enum import Enum
from itertools import count
from typing import Generic, TypeVar

from loguru import logger

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.serving.api.errors import RATE, SERVER, ApiError

T = TypeVar("T")
Stop = Callable[[], bool]  # whether no more is wanted
WAIT_PER_CHARACTER = 2e-5  # seconds by which others may overtake; the costliest text takes about twice as long


class _Sentinel(Enum):
    END = 0


class Job(Generic[T]):
    """One piece of work and the way its results take to the event loop. At most `buffer` results wait to be taken."""

    def __init__(self, start: Callable[[Stop], Generator[T]], *, owner: str | None, length: int = 0, buffer: int = 64):
        self._start, self.owner = start, owner
        self.due = time.monotonic() + length * WAIT_PER_CHARACTER
        self.stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._results: asyncio.Queue[T | Exception | _Sentinel] = asyncio.Queue()
        self._buffer = threading.Semaphore(buffer)

    def stop(self) -> None:
        """No result is wanted any more. Safe from any thread, any number of times."""
        self.stopped.set()
        self._buffer.release()

    def run(self, client_seconds: float) -> None:
        """In a worker's thread. Gives up when nobody takes a result for so long: TimeoutError there."""
        if self.stopped.is_set():
            return
        results: Generator[T] | None = None
        try:
            results = self._start(self.stopped.is_set)
            for result in results:
                if not self._buffer.acquire(timeout=client_seconds):
                    raise TimeoutError  # for whoever begins to take results again
                if self.stopped.is_set():
                    return
                self._put(result)
            self._put(_Sentinel.END)
        except Exception as error:  # carried to whoever waits for the results, and raised there
            self._put(error)
            if self.stopped.is_set() and not isinstance(error, LLMTwinError):
                logger.opt(exception=error).error("a bug in an answer that nobody waits for any more")
        finally:
            if results is not None:
                results.close()

    def _put(self, result: T | Exception | _Sentinel) -> None:
        try:
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)
        except RuntimeError:  # the loop is closed: the server has ended
            self.stopped.set()

    async def results(self, deadline: float) -> AsyncGenerator[T]:
        """Raises what the work raised, and TimeoutError when the next result is not there at `deadline` (loop time)."""
        while True:
            async with asyncio.timeout_at(deadline):
                result = await self._results.get()
            if isinstance(result, _Sentinel):
                return
            if isinstance(result, Exception):
                raise result
            self._buffer.release()
            yield result


class WorkerPool:
    """`threads` jobs run, `waiting` more wait, the rest are refused; of one owner at most `per_owner` at a time.

    Those that wait are taken in the order in which they came, a long one as if it had come later: it takes longer, and
    many of them would keep all the short ones waiting.

    A job whose client has left counts until its thread is really free again.
    """

    def __init__(self, *, threads: int, waiting: int, per_owner: int, client_seconds: float) -> None:
        self._capacity, self._threads, self._per_owner = threads + waiting, threads, per_owner
        self._client_seconds = client_seconds
        self._jobs: queue.PriorityQueue[tuple[float, int, Job | None]] = queue.PriorityQueue()
        self._numbers = count()
        self._lock = threading.Lock()
        self._admitted: set[Job] = set()
        self._owners: Counter[str] = Counter()
        self._running, self._closed = 0, False
        self._mean_seconds = 1.0  # of a job, smoothed; for Retry-After
        self._job_ended = threading.Condition(self._lock)
        for number in range(threads):
            # daemons: a model that does not stop must not keep the process from ending
            threading.Thread(target=self._work, name=f"answers-{number}", daemon=True).start()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return max(0, len(self._admitted) - self._running)

    async def stream(
        self, start: Callable[[Stop], Generator[T]], *, owner: str | None, seconds: float, length: int = 0
    ) -> AsyncGenerator[T]:
        """The results of `start(stop)`, which reads `length` characters, as they come. Raises ApiError: 503 or 429 at
        once when there is no room, 504 after `seconds`. Closing this stops the work."""
        job = Job(start, owner=owner, length=length)
        self._admit(job)
        try:
            async with aclosing(job.results(asyncio.get_running_loop().time() + seconds)) as results:
                async for result in results:
                    yield result
        except TimeoutError:
            raise ApiError(
                504,
                f"no complete answer within {seconds:g} seconds; try again, or ask for fewer passages or tokens",
                type=SERVER,
                code="timeout",
            ) from None
        finally:
            job.stop()

    async def run(self, work: Callable[[], T], *, owner: str | None, seconds: float, length: int = 0) -> T:
        """The one result of `work()`. Raises as `stream`."""
        stream = self.stream(lambda stop: _only(work), owner=owner, seconds=seconds, length=length)
        async with aclosing(stream) as results:
            return await anext(results)

    def _admit(self, job: Job) -> None:
        with self._lock:
            wait = min(60, max(1, math.ceil(len(self._admitted) * self._mean_seconds / self._threads)))
            if self._closed:
                raise ApiError(
                    503, "the server is being stopped; try again soon", type=SERVER, code="stopping", retry_after=wait
                )
            if len(self._admitted) >= self._capacity:
                raise ApiError(
                    503, "the server is busy; try again in a moment", type=SERVER, code="server_busy", retry_after=wait
                )
            if job.owner is not None and self._owners[job.owner] >= self._per_owner:
                raise ApiError(
                    429,
                    f"{self._per_owner} requests with this key are being answered already; wait for one to end",
                    type=RATE,
                    code="too_many_at_once",
                    retry_after=wait,
                )
            self._admitted.add(job)
            if job.owner is not None:
                self._owners[job.owner] += 1
        self._jobs.put((job.due, next(self._numbers), job))

    def _work(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            began = time.perf_counter()
            with self._lock:
                self._running += 1
            try:
                job.run(self._client_seconds)
            except Exception:  # while it was closed; this thread is needed for others
                logger.exception("a bug at the end of an answer")
            finally:
                with self._lock:
                    self._running -= 1
                    self._mean_seconds += 0.1 * (time.perf_counter() - began - self._mean_seconds)
                    self._leave(job)
                del job

    def _leave(self, job: Job) -> None:
        self._admitted.discard(job)
        if job.owner is not None:
            self._owners[job.owner] -= 1
            if not self._owners[job.owner]:
                del self._owners[job.owner]
        self._job_ended.notify_all()

    def close(self, seconds: float) -> bool:
        """Take nothing more, stop what runs, and wait that long for it to end; whether it did."""
        with self._lock:
            self._closed = True
            for job in self._admitted:
                job.stop()
        for _ in range(self._threads):
            self._jobs.put((math.inf, next(self._numbers), None))
        with self._job_ended:
            return self._job_ended.wait_for(lambda: not self._admitted, seconds)


def _only(work: Callable[[], T]) -> Generator[T]:
    yield work()
