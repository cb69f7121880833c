"""What a run did: small enough to cross a step boundary, complete enough to act on."""

from datetime import datetime

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.noun import Noun

MAX_FAILURES = 200  # listed in a report; the ledger has them all


class Failure(Noun):
    link: str
    reason: Reason
    detail: str = ""
    retry: bool


class CrawlReport(Noun):
    """Of one author. `links` = read + unchanged + gone + failed + resumed."""

    author: str
    links: int = 0
    read: int = 0
    unchanged: int = 0
    gone: int = 0
    failed: int = 0
    resumed: int = 0  # done by the interrupted run that this one goes on with
    documents_inserted: int = 0
    documents_updated: int = 0
    documents_unchanged: int = 0
    documents_deleted: int = 0
    bodies_downloaded: int = 0
    bytes_downloaded: int = 0
    skipped: dict[str, int] = {}  # files passed over inside repositories, folders and archives, by why
    by_source: dict[str, int] = {}  # links, by source
    failures: tuple[Failure, ...] = ()  # the first MAX_FAILURES
    started_at: datetime
    seconds: float = 0.0
    red: str = ""  # why this author's step is red, if it is


class FeatureReport(Noun):
    """Of one run over the change feed."""

    documents_seen: int = 0
    documents_indexed: int = 0
    documents_unchanged: int = 0
    documents_removed: int = 0
    documents_empty: dict[str, str] = {}  # link -> why nothing was left after cleaning; the first MAX_FAILURES
    empty: int = 0
    failed: int = 0  # documents of the warehouse that are not in the index, however long ago they failed
    failures: tuple[Failure, ...] = ()  # of them, the first MAX_FAILURES
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
    started_at: datetime
    seconds: float = 0.0
    red: str = ""  # why this run is red, if it is
