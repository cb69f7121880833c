"""Between the command line and the steps, while they run in one process: how far they are, and whether to stop."""

import threading
from collections.abc import Callable

from llm_engineering.domain.ledger import LedgerEntry
from llm_engineering.domain.reports import FeatureReport

Listener = Callable[[LedgerEntry | FeatureReport], None]

listeners: list[Listener] = []
stopping = threading.Event()  # set by Ctrl-C


def tell(event: LedgerEntry | FeatureReport) -> None:
    """A link's outcome, or how far the features are."""
    for listener in listeners:
        listener(event)
