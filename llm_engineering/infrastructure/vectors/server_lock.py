"""One writer at a time on a server that has no locks: a note with an end, so that a dead writer's note lapses."""

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.ids import stable_id

HOLD = timedelta(minutes=10)
KEY = stable_id("writer")


class Notes(Protocol):
    address: str

    def record(self, key: str) -> dict[str, Any] | None: ...

    def write_record(self, key: str, payload: dict[str, Any]) -> None: ...


class ServerLock:
    """Best effort: of two writers that start in the same few milliseconds, the one that wrote last goes on."""

    def __init__(self, notes: Notes, *, owner: str) -> None:
        self._notes, self._owner = notes, f"{owner}:{id(self)}"
        self._until = datetime.min.replace(tzinfo=UTC)

    def take(self) -> None:
        """Raises StoreLocked while somebody else's note holds."""
        note = self._notes.record(KEY)
        if note and note["owner"] and not _lapsed(note):
            self._raise(note)
        self._write()
        note = self._notes.record(KEY)
        if note and note["owner"] != self._owner:
            self._raise(note)

    def refresh(self) -> None:
        """Raises StoreLocked when another writer took over because this one was silent too long."""
        if self._until - datetime.now(UTC) < HOLD / 2:
            note = self._notes.record(KEY)
            if note and note["owner"] != self._owner:
                self._raise(note)
            self._write()

    def release(self) -> None:
        note = self._notes.record(KEY)
        if note and note["owner"] == self._owner:
            self._notes.write_record(KEY, {"owner": "", "host": "", "pid": 0, "until": ""})

    def _write(self) -> None:
        self._until = datetime.now(UTC) + HOLD
        note = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid()}
        self._notes.write_record(KEY, note | {"until": self._until.isoformat()})

    def _raise(self, note: dict[str, Any]) -> None:
        raise StoreLocked(
            f"{self._notes.address} is being written by process {note['pid']} on {note['host']}; "
            f"wait for it to end, or stop it, and run again (its lock lapses at {note['until']})"
        )


def _lapsed(note: dict[str, Any]) -> bool:
    if datetime.fromisoformat(note["until"]) < datetime.now(UTC):
        return True
    return note["host"] == socket.gethostname() and not _alive(note["pid"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
