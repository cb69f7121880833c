"""One request's record: what was asked, what each stage did and how long it took, what came out."""

import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from loguru import logger

from llm_engineering.infrastructure.tracing.redact import redact

TraceRecord = dict[str, Any]  # see `Record`; read back it is JSON that others may have written, so nothing is sure


def new_id() -> str:
    """A UUID of version 7 (RFC 9562), which begins with the time: ids sort by age, and Opik asks for them."""
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Record:
    """The `Trace` of every tracer. `send` gets it once, when finished, as a dict of plain JSON data:

    id, name, at (UTC), ms, input (facts of the start), output (facts of the end) and stages, each with name,
    start_ms, ms, facts and, where it failed, error.
    """

    def __init__(self, name: str, facts: dict[str, object], *, send: Callable[[TraceRecord], None]) -> None:
        self.id = new_id()
        self._at, self._began = datetime.now(UTC), time.perf_counter()
        self._name, self._input, self._send = name, facts, send
        self._stages: list[dict[str, object]] = []
        self._finished = False

    @contextmanager
    def stage(self, name: str, **facts: object) -> Generator[dict[str, object]]:
        began = time.perf_counter()
        error: str | BaseException | None = None
        try:
            yield facts
        except GeneratorExit:
            error = "stopped: the reader left"
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            stage = {"name": name, "start_ms": _ms(began - self._began), "ms": _ms(time.perf_counter() - began)}
            self._stages.append({**stage, "facts": dict(facts), **({} if error is None else {"error": error})})

    def finish(self, **facts: object) -> None:
        """The first call counts."""
        if self._finished:
            return
        self._finished = True
        head = {"id": self.id, "name": self._name, "at": self._at, "ms": _ms(time.perf_counter() - self._began)}
        try:
            kept = redact({**head, "input": self._input, "output": facts, "stages": self._stages})
        except Exception as error:  # a fact whose own code fails; the answer it belongs to is good
            logger.warning("trace {}: a fact could not be recorded ({})", self.id, type(error).__name__)
            kept = redact({**head, "input": {}, "output": {}, "stages": [], "unrecorded": type(error).__name__})
        self._send(kept)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
