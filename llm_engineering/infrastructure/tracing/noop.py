"""For who wants no traces: answers still get an id, so that feedback can name them."""

from collections.abc import Iterator
from contextlib import contextmanager

from llm_engineering.infrastructure.tracing.record import new_id


class NoopTracer:
    def start(self, name: str, **facts: object) -> "NoopTrace":
        return NoopTrace()

    def recent(self, limit: int) -> list[dict]:
        return []

    def close(self) -> None: ...


class NoopTrace:
    def __init__(self) -> None:
        self.id = new_id()

    @contextmanager
    def stage(self, name: str, **facts: object) -> Iterator[dict[str, object]]:
        yield {}

    def finish(self, **facts: object) -> None: ...
