"""Between the command line and the steps, while they run in one process: how far they are, and whether to stop."""

import threading
from collections.abc import Callable

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ledger import LedgerEntry
from llm_engineering.domain.reports import CrawlReport, FeatureReport

Listener = Callable[[LedgerEntry | FeatureReport], None]

listeners: list[Listener] = []
stopping = threading.Event()  # set by Ctrl-C


class Stopped(LLMTwinError):
    """Somebody pressed Ctrl-C. What was done is kept; `report` says what that was, for a crawl."""

    def __init__(self, message: str, report: CrawlReport | None = None) -> None:
        super().__init__(message)
        self.report = report


def tell(event: LedgerEntry | FeatureReport) -> None:
    """A link's outcome, or how far the features are."""
    for listener in listeners:
        listener(event)


def tell_or_stop(event: LedgerEntry | FeatureReport) -> None:
    """Raises Stopped when the run is to end."""
    tell(event)
    if stopping.is_set():
        raise Stopped("stopped before the end; run again and it goes on from here")
