"""A FeatureReport in the making."""

import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llm_engineering.domain.runs import FeatureReport


@dataclass
class ReportBuilder:
    """`counts` by the report's fields, `seconds` by what they went into."""

    rebuilt: bool
    rescanned: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _start: float = field(default_factory=time.perf_counter)

    @contextmanager
    def timed(self, name: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def report(self, **fields: object) -> FeatureReport:
        """As things stand, with `fields` of the report besides what is kept here."""
        return FeatureReport.model_validate(
            {
                **self.counts,
                **{f"seconds_{name}": seconds for name, seconds in self.seconds.items()},
                "rebuilt": self.rebuilt,
                "rescanned": self.rescanned,
                "started_at": self.started_at,
                "seconds": time.perf_counter() - self._start,
                **fields,
            }
        )
