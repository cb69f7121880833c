"""One writer at a time on a server that has no locks: a lease with an end, so that a dead writer's lease lapses."""

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.ids import stable_id

HOLD = timedelta(minutes=10)
KEY = stable_id("writer")


class Records(Protocol):
    address: str

    def record(self, key: str) -> dict[str, Any] | None: ...

    def write_record(self, key: str, payload: dict[str, Any]) -> None: ...


class ServerLock:
    """Best effort: of two writers that start in the same few milliseconds, the one that wrote last goes on."""

    def __init__(self, records: Records, *, owner: str) -> None:
        self._records, self._owner = records, f"{owner}:{id(self)}"
        self._until = datetime.min.replace(tzinfo=UTC)

    def take(self) -> None:
        """Raises StoreLocked while somebody else's lease holds."""
        lease = self._records.record(KEY)
        if lease and lease["owner"] and not _lapsed(lease):
            self._raise(lease)
        self._write()
        lease = self._records.record(KEY)
        if lease and lease["owner"] != self._owner:
            self._raise(lease)

    def refresh(self) -> None:
        """Raises StoreLocked when another writer took over because this one was silent too long."""
        if self._until - datetime.now(UTC) < HOLD / 2:
            lease = self._records.record(KEY)
            if lease and lease["owner"] != self._owner:
                self._raise(lease)
            self._write()

    def release(self) -> None:
        lease = self._records.record(KEY)
        if lease and lease["owner"] == self._owner:
            self._records.write_record(KEY, {"owner": "", "host": "", "pid": 0, "until": ""})

    def _write(self) -> None:
        self._until = datetime.now(UTC) + HOLD
        lease = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid()}
        self._records.write_record(KEY, lease | {"until": self._until.isoformat()})

    def _raise(self, lease: dict[str, Any]) -> None:
        raise StoreLocked(
            f"{self._records.address} is being written by process {lease['pid']} on {lease['host']}; "
            f"wait for it to end, or stop it, and run again (its lock lapses at {lease['until']})"
        )


def _lapsed(lease: dict[str, Any]) -> bool:
    if not datetime.now(UTC) <= datetime.fromisoformat(lease["until"]) <= datetime.now(UTC) + 2 * HOLD:
        return True  # nobody holds it for longer: later than that, a clock was set back since
    return lease["host"] == socket.gethostname() and not _alive(lease["pid"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
