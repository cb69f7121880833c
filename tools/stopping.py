"""Ctrl-C: once ends the run in order, twice at once."""

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from steps.run_control import stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Generator[Callable[[], bool]]:
    """Gives a function that says whether a signal came.

    The first one asks the steps to finish what is in flight and to start nothing new. The second ends the process and
    the browsers it started; the stores are made to be left at any moment.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            _end_now()
        stopping.set()
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
        stopping.clear()


def _end_now() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.terminate()
    os._exit(130)
