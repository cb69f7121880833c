"""What readers thought of answers: one JSON line each, in a file beside the warehouse and never in it."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger
from pydantic import ValidationError

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.files import make_folder, reason_of
from llm_engineering.infrastructure.json_lines import append_lines, lock_file, remove_lines


class JsonlFeedback:
    """Any number of threads and processes may add. One that dies half-way leaves a torn line, which readers skip."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._lock = lock_file(self._path.with_name(f".{self._path.name}.lock"))

    def add(self, feedback: Feedback) -> None:
        """Durable when it returns. Raises StoreUnavailable that says which file and why."""
        stored = feedback if feedback.at else feedback.model_copy(update={"at": datetime.now(UTC)})
        with self._explained("written", "free the disk or mend its rights, then send it again"):
            make_folder(self._path.parent)
            append_lines(self._path, stored.model_dump_json().encode() + b"\n", lock=self._lock, durable=True)

    def all(self) -> Iterator[Feedback]:
        """Oldest first; torn or foreign lines are skipped, and told. Raises StoreUnavailable."""
        for number, line in enumerate(self._lines(), start=1):
            if feedback := _feedback(line):
                yield feedback
            else:
                logger.warning("{} line {} is no feedback; skipped", self._path.name, number)

    def holds(self, subject: DataSubject) -> int:
        return sum(1 for line in self._lines() if (one := _feedback(line)) and _is_about(subject, one))

    def erase(self, subject: DataSubject) -> Erased:
        """Torn lines go too: nobody can read whose they are."""
        number = self.holds(subject)
        with self._explained("rewritten", "free the disk or mend its rights"):
            if self._path.parent.exists():
                remove_lines(
                    self._path,
                    lambda line: not (one := _feedback(line)) or _is_about(subject, one),
                    lock=self._lock,
                )
        return Erased(number)

    def _lines(self) -> Iterator[bytes]:
        with self._explained("read", "mend its rights"), suppress(FileNotFoundError), self._path.open("rb") as file:
            yield from file

    @contextmanager
    def _explained(self, done: str, mend: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"the feedback file {self._path.name} cannot be {done} ({reason_of(error)}): {mend}"
            ) from error


def _feedback(line: bytes) -> Feedback | None:
    try:
        return Feedback.model_validate_json(line)
    except ValidationError:
        return None


def _is_about(subject: DataSubject, feedback: Feedback) -> bool:
    said = "\n".join((feedback.question, feedback.answer, feedback.comment))
    return feedback.trace_id in subject.trace_ids or subject.is_in(said)
