"""Between the command line and the steps, while they run in one process: how far they are, and whether to stop."""

import threading
from collections.abc import Callable

from llm_engineering.domain.runs import Report

Listener = Callable[[str, str], None]  # which part of the run, and how far it is

listeners: list[Listener] = []
stopping = threading.Event()  # set by Ctrl-C


def publish(part: str, line: str) -> None:
    for listener in listeners:
        listener(part, line)


def publish_progress(report: Report) -> None:
    """How far a step is, as the report it would end with now."""
    publish(report.part, report.progress())
