"""What a run did: small enough to cross a step boundary, complete enough to act on."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, NamedTuple, TypeVar

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.text import size_text

MAX_FAILURES = 200  # listed in a report; the ledger has them all


class Failure(Noun):
    """One item that could not be processed."""

    link: str
    reason: Reason
    detail: str = ""
    retry: bool


class Report(Noun):
    """What one step of a run tells, while it goes on and at its end.

    A pipeline's own report adds its fields and says, in the methods below, how they are shown. The command line, the
    dashboard's metadata and the report page know of no other way, so they show a new pipeline's report as it is.
    """

    title: ClassVar[str] = "Steps"  # above the reports of this kind
    item: ClassVar[str] = "Item"  # what a failure is about

    started_at: datetime
    seconds: float = 0.0
    red: str = ""  # why the step is red, if it is
    failed: int = 0
    failures: tuple[Failure, ...] = ()  # the first MAX_FAILURES

    @property
    def part(self) -> str:
        """Which part of the run this is: an author's name, or what the step makes."""
        return type(self).__name__

    def counts(self) -> dict[str, int]:
        """The columns of the table, in order."""
        return {}

    def outcomes(self) -> dict[str, int]:
        """Parts of one whole, drawn as one bar."""
        return {}

    def stages(self) -> dict[str, float]:
        """Seconds, by what they went into."""
        return {}

    def details(self) -> dict[str, Mapping[str, int | str]]:
        """Further tables of the page: title -> row -> value."""
        return {}

    def progress(self) -> str:
        """One line, while the step runs."""
        return ", ".join(f"{number:,} {what}" for what, number in self.counts().items() if number)


class CrawlReport(Report):
    """Of one author. `links` = read + unchanged + gone + failed + resumed."""

    title = "Links, by author"
    item = "Link"

    author: str
    links: int = 0
    read: int = 0
    unchanged: int = 0
    gone: int = 0
    resumed: int = 0  # done by the interrupted run that this one goes on with
    documents_inserted: int = 0
    documents_updated: int = 0
    documents_unchanged: int = 0
    documents_deleted: int = 0
    bodies_downloaded: int = 0
    bytes_downloaded: int = 0
    skipped: dict[str, int] = {}  # files passed over inside repositories, folders and archives, by why
    by_source: dict[str, int] = {}  # links, by source

    @property
    def part(self) -> str:
        return self.author

    def counts(self) -> dict[str, int]:
        return {
            "links": self.links,
            "read": self.read,
            "same": self.unchanged + self.resumed,
            "gone": self.gone,
            "failed": self.failed,
            "new": self.documents_inserted,
            "changed": self.documents_updated,
            "removed": self.documents_deleted,
        }

    def outcomes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("read", "unchanged", "resumed", "gone", "failed")}

    def details(self) -> dict[str, Mapping[str, int | str]]:
        return {
            "Links, by source": self.by_source,
            "Files passed over on purpose": self.skipped,
            "Downloaded": {f"{self.bodies_downloaded:,} bodies": size_text(self.bytes_downloaded)},
        }

    def progress(self) -> str:
        return f"{self.links - self.failed:,} links" + (f", {self.failed:,} failed" if self.failed else "")


class FeatureReport(Report):
    """Of one run over the change feed. `failed` and `empty` count the warehouse's documents that are not in the index,
    also those that an earlier run failed at and this one did not try again."""

    title = "Features"
    item = "Document"

    documents_seen: int = 0
    documents_indexed: int = 0
    documents_unchanged: int = 0
    documents_removed: int = 0
    documents_empty: dict[str, str] = {}  # link -> why nothing was left after cleaning; the first MAX_FAILURES
    empty: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_removed: int = 0
    characters: int = 0
    tokens: int = 0
    chunks_total: int = 0  # in the published index
    index_version: str = ""
    rebuilt: bool = False
    rescanned: bool = False  # the change feed had expired, so everything was compared
    seconds_cleaning: float = 0.0
    seconds_splitting: float = 0.0
    seconds_embedding: float = 0.0
    seconds_loading: float = 0.0

    @property
    def part(self) -> str:
        return "features"

    def counts(self) -> dict[str, int]:
        return {
            "indexed": self.documents_indexed,
            "same": self.documents_unchanged,
            "removed": self.documents_removed,
            "empty": self.empty,
            "failed": self.failed,
            "embedded": self.chunks_embedded,
            "reused": self.chunks_reused,
            "passages": self.chunks_total,
        }

    def stages(self) -> dict[str, float]:
        return {name: getattr(self, f"seconds_{name}") for name in ("cleaning", "splitting", "embedding", "loading")}

    def details(self) -> dict[str, Mapping[str, int | str]]:
        made = {
            "version": self.index_version,
            "characters": self.characters,
            "tokens": self.tokens,
            "built from nothing": "yes" if self.rebuilt else "no",
            "compared with the whole warehouse": "yes" if self.rescanned else "no",
        }
        return {"Index": made, "Documents with nothing left after cleaning": self.documents_empty}

    def progress(self) -> str:
        return f"{self.documents_indexed:,} documents, {self.chunks_embedded:,} passages embedded"


R = TypeVar("R", bound=Report)


class RunRecord(NamedTuple):
    """What a finished run left: its reports in the order their steps began. `broken`: step -> why, of the steps that
    failed without a report."""

    reports: tuple[Report, ...] = ()
    broken: Mapping[str, str] = {}

    def of(self, kind: type[R]) -> list[R]:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def red(self) -> dict[str, str]:
        """Which parts of the run failed, and why."""
        return {one.part: one.red for one in self.reports if one.red} | dict(self.broken)
