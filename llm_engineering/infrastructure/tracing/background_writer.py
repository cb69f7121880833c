"""A bounded queue with one thread behind it: who puts never waits, and who leaves waits only so long.

Ours and not OpenTelemetry's batch processor: that drops what its exporter fails to send, and with a server that hangs
holds the process for 30 s and drops it too; here it goes into files (`test_a_process_ends_whatever_opik_does…`).
"""

import atexit
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from loguru import logger

from llm_engineering.infrastructure.files import reason_of
from llm_engineering.infrastructure.tracing.record import TraceRecord

BATCH = 100
STOP = object()


class BackgroundWriter:
    """`write` gets lists of records, in order, in a thread of its own. What it raises over, and what it has not done
    when the writer is closed, goes to `fallback`; both must be quick to fail or to bear being left behind.

    `dropped` counts what was lost: the queue was full, or neither took it.
    """

    def __init__(
        self,
        write: Callable[[list[TraceRecord]], None],
        *,
        fallback: Callable[[list[TraceRecord]], None] | None = None,
        size: int = 1000,
    ) -> None:
        self._write, self._fallback = write, fallback
        self._writing: list[TraceRecord] = []
        self._queue: queue.Queue = queue.Queue(size)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._warned: set[str] = set()
        self.dropped = 0

    def put(self, record: TraceRecord) -> None:
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
        """Write what is there, for at most so long. The first call counts."""
        with self._lock:
            closed, self._closed, thread = self._closed, True, self._thread
        if thread is None or closed:
            return
        atexit.unregister(self.close)
        until = time.monotonic() + seconds
        self._signal(STOP, seconds)
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            waiting = [one for one in self._waiting() if isinstance(one, dict)]
            self._rescue([*self._claim(), *waiting], "not written before the end")
            self._queue.put_nowait(STOP)

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
            taken = [self._queue.get(), *islice(self._waiting(), BATCH - 1)]
            self._deliver([one for one in taken if isinstance(one, dict)])
            for one in taken:
                if isinstance(one, threading.Event):
                    one.set()
            if STOP in taken:
                return

    def _deliver(self, records: list[TraceRecord]) -> None:
        with self._lock:
            self._writing = records
        try:
            self._write(records)
            self._claim()
        except Exception as error:  # tracing must outlive a full disk and a bug of its own; both are told and counted
            self._rescue(self._claim(), _reason(error))

    def _claim(self) -> list[TraceRecord]:
        """What is being written; whoever gets it first decides what becomes of it."""
        with self._lock:
            claimed, self._writing = self._writing, []
        return claimed

    def _waiting(self) -> Iterator[object]:
        """Takes what is in the queue; two threads may take at once."""
        with suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def _rescue(self, records: list[TraceRecord], why: str) -> None:
        if not records:
            return
        try:
            if self._fallback:
                self._fallback(records)
                return
        except Exception as error:  # as above
            why = _reason(error)
        self._lose(len(records), why)

    def _lose(self, count: int, why: str) -> None:
        with self._lock:
            self.dropped += count
            known = why in self._warned
            self._warned.add(why)
        if not known:
            logger.warning("traces are being lost ({}); answering goes on", why)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {reason_of(error)}"
    return reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
