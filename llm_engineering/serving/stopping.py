"""How a server ends: told once, in order and within its time; told twice, at once."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppableServer(uvicorn.Server):
    """The first SIGINT or SIGTERM ends it in order. After `drain_seconds`, or at the second, the system itself ends the
    process, whatever its threads are doing; its processes then end with it (serving/worker_process.py)."""

    def __init__(self, config: uvicorn.Config, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Being told to stop is no failure, so the signal is not raised again afterwards."""
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self._drain_seconds))
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
