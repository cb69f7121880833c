"""For who wants no traces: answers still get an id, so that feedback can name them."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.tracing.jsonl import TraceFiles
from llm_engineering.infrastructure.tracing.record import TraceRecord, new_id


class NoopTracer:
    """Keeps nothing. What was kept in `folder` before traces were turned off is still found and erased."""

    def __init__(self, folder: Path) -> None:
        self._files = TraceFiles(folder)

    def start(self, name: str, **facts: object) -> "NoopTrace":
        return NoopTrace()

    def recent(self, limit: int) -> list[TraceRecord]:
        return []

    def ids_about(self, subject: DataSubject) -> frozenset[str]:
        return self._files.ids_about(subject)

    def holds(self, subject: DataSubject) -> int:
        return len(self.ids_about(subject))

    def erase(self, subject: DataSubject) -> Erased:
        return self._files.erase(subject)

    def close(self) -> None: ...


class NoopTrace:
    def __init__(self) -> None:
        self.id = new_id()

    @contextmanager
    def stage(self, name: str, **facts: object) -> Generator[dict[str, object]]:
        yield {}

    def finish(self, **facts: object) -> None: ...
