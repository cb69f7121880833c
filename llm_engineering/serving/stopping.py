"""How a server ends: told once, in order and within its time; told twice, at once."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST = 1.0  # seconds before the system ends what could not end itself


class StoppableServer(uvicorn.Server):
    """The first SIGINT or SIGTERM ends it in order, the second at once: `abandon` is called, and the process is over.

    So it is `drain_seconds` after the first, whatever the threads are doing; the system itself does it where even that
    is not possible, because one of them holds the interpreter's lock.
    """

    def __init__(self, config: uvicorn.Config, *, drain_seconds: float, abandon: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_seconds, self._abandon = drain_seconds, abandon

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Being told to stop is no failure, so the signal is not raised again afterwards."""
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: self._end(128 + number))
        signal.setitimer(signal.ITIMER_REAL, self._drain_seconds)  # SIGALRM, which nobody handles
        last = threading.Timer(self._drain_seconds - LAST, self._end, (1,))
        last.daemon = True
        last.start()

    def _end(self, code: int) -> None:
        try:
            self._abandon()
        finally:
            os._exit(code)
