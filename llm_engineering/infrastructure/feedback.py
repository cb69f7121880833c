"""What readers thought of answers: one JSON line each, in a file beside the warehouse and never in it."""

import fcntl
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger
from pydantic import ValidationError

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.errors import StoreUnavailable


class JsonlFeedback:
    """Any number of threads and processes may add. One that dies half-way leaves a torn line, which readers skip."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()

    def add(self, feedback: Feedback) -> None:
        """Durable when it returns. Raises StoreUnavailable that says which file and why."""
        stored = feedback if feedback.at else feedback.model_copy(update={"at": datetime.now(UTC)})
        line = stored.model_dump_json().encode() + b"\n"
        try:
            with self._lock:
                self._append(line)
        except OSError as error:
            raise StoreUnavailable(
                f"the feedback file {self._path.name} cannot be written ({error.strerror}): free the disk or mend its "
                "rights, then send it again"
            ) from error

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # freed when the handle is closed
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # after the torn line of a process that died
            try:
                while line:
                    line = line[os.write(handle, line) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)  # a full disk took half of it
                raise
        finally:
            os.close(handle)

    def all(self) -> Iterator[Feedback]:
        """Oldest first; torn or foreign lines are skipped, and told. Raises StoreUnavailable."""
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    try:
                        yield Feedback.model_validate_json(line)
                    except ValidationError:
                        logger.warning("{} line {} is no feedback; skipped", self._path.name, number)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(
                f"the feedback file {self._path.name} cannot be read ({error.strerror}): mend its rights"
            ) from error
