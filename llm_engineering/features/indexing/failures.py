"""Documents that cannot be indexed: why, in which code, and when they are tried again."""

import traceback
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from loguru import logger

from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import CleaningError, OverBudget, StoreCorrupt, raised_at
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import DocumentFailure, Reason
from llm_engineering.domain.ports import Change, IndexWriter, Ledger, Warehouse
from llm_engineering.domain.runs import MAX_FAILURES, Failure
from llm_engineering.domain.text import storable

Stage = Literal["read", "clean", "cut", "clean or cut"]

LONGEST_DETAIL = 500  # characters
_PACKAGES = ("cleaning", "indexing", "reading", "sources")  # of ours, what turns a body into passages
_LIBRARIES = ("beautifulsoup4", "lxml", "pypdf", "PyYAML", "semantic-text-splitter", "trafilatura")


@cache
def code_version() -> str:
    """A hash of the code that turns a body into passages: our modules, and the releases of the libraries they call."""
    features = Path(__file__).parents[1]
    modules = sorted(path for package in _PACKAGES for path in (features / package).glob("*.py"))
    return content_hash(*(path.read_text(encoding="utf-8") for path in modules), *map(_release, _LIBRARIES))


def _release(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


def failure_of(
    document_id: str, document: Document | None, reason: Reason, detail: str, code_version: str
) -> DocumentFailure:
    """`document` None: not even its link can be read."""
    return DocumentFailure(
        document_id=document_id,
        link=document.link if document else f"document {document_id}",
        author_id=document.author.id if document else "",
        author_name=document.author.name if document else "",
        source=document.source if document else "",
        reason=reason,
        detail=storable(" ".join(detail.split())[:LONGEST_DETAIL]),
        code_version=code_version,
        failed_at=datetime.now(UTC),
    )


class Failed(NamedTuple):
    """What one document came to, wherever it was worked on. `detail`: the stage, what was raised, and where; `trace`:
    its traceback, unless the error was raised on purpose and has no other behind it."""

    reason: Reason
    detail: str
    trace: str = ""

    @classmethod
    def by(cls, error: Exception, stage: Stage) -> "Failed":
        foreseen = isinstance(error, CleaningError | StoreCorrupt | OverBudget)
        cause = error.__cause__ if foreseen else error
        place = f"{type(cause).__name__} at {raised_at(cause)}: " if cause else ""
        reason = Reason.UNREADABLE if foreseen else Reason.INTERNAL_ERROR
        return cls(
            reason=Reason.OVER_BUDGET if isinstance(error, OverBudget) else reason,
            detail=f"{stage}: {place}{error}",
            trace="\n" + "".join(traceback.format_exception(cause)) if cause else "",
        )


def logged_failure(failed: Failed, document_id: str, document: Document | None, code_version: str) -> DocumentFailure:
    failure = failure_of(document_id, document, failed.reason, failed.detail, code_version)
    level = "ERROR" if failed.reason is Reason.INTERNAL_ERROR else "WARNING"
    logger.log(level, "{} is not indexed: {}, {}{}", failure.link, failure.reason, failure.detail, failed.trace)
    return failure


class OpenFailures:
    """What the ledger says about documents that are not in the index, kept in step with the index.

    `record` before a checkpoint of the index and `forget_resolved` after it: a run that is killed between the two
    finds nothing lost.
    """

    def __init__(self, ledger: Ledger, code_version: str) -> None:
        self.code_version = code_version
        self.newly_failed: set[str] = set()  # documents of which this was not known; those that came out empty aside
        self._ledger = ledger
        self._reasons: dict[str, Reason] = {}  # by document
        self._outdated: list[str] = []
        for failure in ledger.document_failures():
            self._reasons[failure.document_id] = failure.reason
            if failure.code_version != code_version:
                self._outdated.append(failure.document_id)
        self._known = frozenset(self._reasons)
        self._unrecorded: dict[str, DocumentFailure] = {}
        self._resolved: set[str] = set()

    @property
    def by_reason(self) -> Counter[Reason]:
        return Counter(self._reasons.values())

    def add(self, failure: DocumentFailure) -> None:
        self._reasons[failure.document_id] = failure.reason
        self._unrecorded[failure.document_id] = failure
        self._resolved.discard(failure.document_id)
        if failure.reason is not Reason.EMPTY and failure.document_id not in self._known:
            self.newly_failed.add(failure.document_id)

    def resolve(self, document_id: str) -> None:
        self.newly_failed.discard(document_id)
        self._unrecorded.pop(document_id, None)
        if self._reasons.pop(document_id, None):
            self._resolved.add(document_id)

    def resolve_settled(self, warehouse: Warehouse, writer: IndexWriter) -> None:
        """Those of documents that are deleted, or in the index after all: a run was killed between two writes."""
        if known := set(self._reasons):
            for document_id in known.difference(warehouse.ids()).union(writer.hashes(list(known))):
                self.resolve(document_id)

    def to_retry(self, warehouse: Warehouse, token: str) -> Iterator[Change]:
        """The documents that other code failed at, as changes of the change feed that end at `token`."""
        for document_id in self._outdated:
            try:
                document = warehouse.get(document_id)
            except StoreCorrupt as error:
                yield Change(document_id, None, token, error)
            else:
                if document:
                    yield Change(document_id, document, token)

    def record(self) -> None:
        if self._unrecorded:
            self._ledger.record_document_failures(self._unrecorded.values())
            self._unrecorded = {}

    def forget_resolved(self) -> None:
        if self._resolved:
            self._ledger.resolve_document_failures(self._resolved)
            self._resolved = set()

    def listed(self) -> tuple[tuple[Failure, ...], dict[str, str]]:
        """(what failed, link -> why of what came out empty) as recorded, the first MAX_FAILURES of each."""
        failed: list[Failure] = []
        empty: dict[str, str] = {}
        for one in self._ledger.document_failures():
            if one.document_id not in self._reasons:
                continue
            if one.reason is Reason.EMPTY and len(empty) < MAX_FAILURES:
                empty[one.link] = one.detail
            elif one.reason is not Reason.EMPTY and len(failed) < MAX_FAILURES:
                failed.append(Failure(link=one.link, reason=one.reason, detail=one.detail, retry=False))
        return tuple(failed), empty
