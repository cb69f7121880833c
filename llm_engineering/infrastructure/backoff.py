"""How long to wait before asking a server again."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 20.0  # seconds
LONGEST_RETRY_AFTER = 366 * 24 * 3600.0  # seconds; who asks for more is taken to ask for this


def backoff(attempt: int, first: float, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the given attempt (1, 2, …): doubling, between half and the whole of it at random, so
    that many clients do not come back at once ("equal jitter", AWS Architecture Blog, 2015).

    Not stamina's: it sleeps by itself, so closing a fetcher could not end the wait
    (`test_closing_ends_the_waits_of_other_threads`), and a link's deadline could not refuse to begin it.
    """
    whole = min(LONGEST_BACKOFF, first * 2 ** (attempt - 1))
    return whole * (0.5 + 0.5 * chance())


def retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date), up to a year; None if it says
    nothing."""
    value = (value or "").strip()
    if len(value) > 100:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return min(LONGEST_RETRY_AFTER, float(value))
    try:
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        wanted = (when - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):  # what the standard library makes of odd dates
        return None
    return min(LONGEST_RETRY_AFTER, max(0.0, wanted))
