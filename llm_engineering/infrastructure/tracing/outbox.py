"""A bounded queue with one thread behind it: who puts never waits, and who leaves waits only so long."""

import atexit
import queue
import threading
import time
from collections.abc import Callable

from loguru import logger

BATCH = 100
STOP = object()


class Outbox:
    """`write` gets lists of records, in order, in a thread of its own; what it raises loses that list, no more.

    `dropped` counts what was lost, because the queue was full or `write` failed.
    """

    def __init__(self, write: Callable[[list[dict]], None], *, size: int = 1000) -> None:
        self._write = write
        self._queue: queue.Queue = queue.Queue(size)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._warned: set[str] = set()
        self.dropped = 0

    def put(self, record: dict) -> None:
        self._start()
        try:
            if self._closed:
                raise queue.Full
            self._queue.put_nowait(record)
        except queue.Full:
            self._lose(1, "closed already" if self._closed else "they come faster than they can be written")

    def flush(self, seconds: float) -> bool:
        """Wait until everything put so far is written, at most so long; says whether it is."""
        done = threading.Event()
        return self._signal(done, seconds) and done.wait(seconds)

    def close(self, seconds: float = 2.0) -> None:
        """Write what is there, for at most so long."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is None:
            return
        atexit.unregister(self.close)
        until = time.monotonic() + seconds
        self._signal(STOP, seconds)
        thread.join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._work, name="traces", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def _signal(self, signal: object, seconds: float) -> bool:
        if self._thread is None or not self._thread.is_alive():
            return False
        try:
            self._queue.put(signal, timeout=seconds)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        while True:
            taken = [self._queue.get()]
            while len(taken) < BATCH and not self._queue.empty():
                taken.append(self._queue.get_nowait())
            self._deliver([one for one in taken if isinstance(one, dict)])
            for one in taken:
                if isinstance(one, threading.Event):
                    one.set()
            if STOP in taken:
                return

    def _deliver(self, records: list[dict]) -> None:
        if not records:
            return
        try:
            self._write(records)
        except Exception as error:  # tracing must outlive a full disk and a bug of its own; both are told and counted
            self._lose(len(records), f"{type(error).__name__}: {error}")

    def _lose(self, count: int, why: str) -> None:
        with self._lock:
            self.dropped += count
            told, _ = why in self._warned, self._warned.add(why)
        if not told:
            logger.warning("traces are being lost ({}); answering goes on", why)
