"""How much one server and one key may ask for."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

from pydantic import Field

from llm_engineering.domain.noun import Noun
from llm_engineering.infrastructure.files import write_whole
from llm_engineering.serving.api.errors import RATE, ApiError
from llm_engineering.serving.api.keys import ApiKey


class Limits(Noun):
    """Seconds, bytes and characters. Every default of the server is written here, once."""

    threads: int = Field(default=8, ge=1)  # questions worked on at once
    waiting: int = Field(default=64, ge=0)  # further ones that may wait; beyond, 503
    waiting_per_key: int = Field(default=32, ge=1)  # of one key, worked on or waiting; beyond, 429
    answer_seconds: float = Field(default=120.0, gt=0)  # for a whole answer, waiting included; beyond, 504
    client_seconds: float = Field(default=30.0, gt=0)  # to send a whole body; to take the next piece of an answer
    ready_seconds: float = Field(default=5.0, gt=0)  # to look at the components; beyond, not ready
    body_bytes: int = Field(default=1_000_000, ge=1)  # of a request; beyond, 413
    context_characters: int = Field(default=100_000, ge=1)  # of all messages together; beyond, 400
    drain_seconds: float = Field(default=30.0, ge=0)  # until a server that is told to stop has ended, in any case
    finish_seconds: float = Field(default=22.0, ge=0)  # of these, for what was started
    close_seconds: float = Field(default=3.0, ge=0)  # and then for threads to notice that they were stopped


class RateLimiter:
    """Requests per minute (a token bucket, full at first) and per UTC day, for each key.

    The day's counts are kept in `path`, so that a restart gives nobody a second quota; at most `save`'s interval is
    lost when the process is killed.
    """

    def __init__(self, path: Path | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now, self._lock = path, now, Lock()
        self._buckets: dict[str, tuple[float, datetime]] = {}
        self._day, self._used = self._read()
        self._saved = dict(self._used)

    def acquire(self, key: ApiKey) -> None:
        """One request. Raises ApiError (429) that says when to come back; a refused request costs nothing."""
        with self._lock:
            now = self._now()
            if now.date().isoformat() != self._day:
                self._day, self._used = now.date().isoformat(), {}
            used = self._used.get(key.id, 0)
            if key.quota is not None and used >= key.quota:
                tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
                raise ApiError(
                    429,
                    f"the daily quota of {key.quota} requests of this key is used up; it starts anew at 00:00 UTC",
                    type="insufficient_quota",
                    code="insufficient_quota",
                    retry_after=(tomorrow - now).total_seconds(),
                )
            self._take(key, now)
            self._used[key.id] = used + 1

    def _take(self, key: ApiKey, now: datetime) -> None:
        if key.rate is None:
            return
        tokens, since = self._buckets.get(key.id, (float(key.rate), now))
        tokens = min(key.rate, tokens + max(0.0, (now - since).total_seconds()) * key.rate / 60)
        if tokens < 1:
            self._buckets[key.id] = (tokens, now)
            raise ApiError(
                429,
                f"more than {key.rate} requests a minute with this key; slow down",
                type=RATE,
                code="rate_limit_exceeded",
                retry_after=math.ceil((1 - tokens) * 60 / key.rate),
            )
        self._buckets[key.id] = (tokens - 1, now)

    def save(self) -> None:
        """Write the day's counts if they changed. What cannot be written is told in the log, and tried again."""
        with self._lock:
            used, day = dict(self._used), self._day
        if self._path is None or used == self._saved:
            return
        try:
            write_whole(self._path, json.dumps({"day": day, "used": used}))
        except OSError as error:
            from loguru import logger

            logger.error("what the keys have used today cannot be written to {}: {}", self._path, error.strerror)
        else:
            self._saved = used

    def _read(self) -> tuple[str, dict[str, int]]:
        today = self._now().date().isoformat()
        if self._path is None or not self._path.exists():
            return today, {}
        try:
            stored = json.loads(self._path.read_text())
            return (today, dict(stored["used"])) if stored["day"] == today else (today, {})
        except (ValueError, KeyError, TypeError):
            return today, {}  # counts of one day; a damaged file must not keep the server from starting
