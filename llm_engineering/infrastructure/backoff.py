"""How long to wait before asking a server again."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 20.0  # seconds


def backoff(attempt: int, first: float, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the given attempt (1, 2, …): doubling, between half and the whole of it at random, so
    that many clients do not come back at once ("equal jitter", AWS Architecture Blog, 2015).

    Not stamina's: it sleeps by itself, so closing a fetcher could not end the wait
    (`test_closing_ends_the_waits_of_other_threads`), and a link's deadline could not refuse to begin it.
    """
    whole = min(LONGEST_BACKOFF, first * 2 ** (attempt - 1))
    return whole * (0.5 + 0.5 * chance())


def retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); None if it says nothing."""
    value = (value or "").strip()
    if seconds := re.fullmatch(r"(\d{1,9})\d*(\.\d+)?", value, re.ASCII):
        return float(seconds[1] + (seconds[2] or ""))
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
