"""Between the command line and the steps, while they run in one process: how far they are, and whether to stop."""

import threading
from collections.abc import Callable

from loguru import logger

from llm_engineering.domain.ledger import LedgerEntry, Outcome
from llm_engineering.domain.runs import FeatureReport

Listener = Callable[[LedgerEntry | FeatureReport], None]

listeners: list[Listener] = []
stopping = threading.Event()  # set by Ctrl-C


def tell(event: LedgerEntry | FeatureReport) -> None:
    """A link's outcome, or how far the features are. What was lost is logged too, where ZenML keeps a step's log."""
    if isinstance(event, LedgerEntry) and event.outcome in (Outcome.FAILED, Outcome.DEAD):
        logger.warning("{}: {} not read: {} {}", event.author_name, event.link, event.reason, event.detail)
    for listener in listeners:
        listener(event)
