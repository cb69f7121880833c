"""What one benchmark says: figures of one run on one machine, and the bars it is held to."""

from llm_engineering.domain.noun import Noun


class Bar(Noun):
    """One promise. `value` and `at_least`/`at_most` share `unit` ("x" for a ratio within this run)."""

    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)


class Benchmark(Noun):
    """`bars` are judged, `figures` (what -> "12.3 pages/s") only read. `skipped` says why nothing was measured."""

    name: str
    bars: tuple[Bar, ...] = ()
    figures: dict[str, str] = {}
    skipped: str = ""
