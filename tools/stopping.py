"""Ctrl-C or SIGTERM: once ends the run in order, twice at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

from steps.run_control import stopping

GRACE = 25.0  # seconds for what is in flight: who stops containers kills them after thirty
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Generator[Callable[[], bool]]:
    """Gives a function that says whether a signal came.

    The first one asks the steps to finish what is in flight and to start nothing new. The second, or the end of the
    `GRACE`, ends the process and all it started; the stores are made to be left at any moment.
    """
    deadline = threading.Timer(GRACE, _end_late)
    deadline.daemon = True

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            _end_now()
        stopping.set()
        deadline.start()
        print(
            "Stopping: what is in flight is finished and kept, so run again to go on. Ctrl-C again stops at once.",
            file=sys.stderr,
        )

    stopping.clear()
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield stopping.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        deadline.cancel()
        stopping.clear()


def _end_late() -> None:
    print(f"Not done within {GRACE:g} s, so ended now; run again to go on.", file=sys.stderr, flush=True)
    _end_now()


def _end_now() -> None:
    import psutil

    from llm_engineering.infrastructure.temporary_folders import remove_own

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    remove_own()
    os._exit(130)
