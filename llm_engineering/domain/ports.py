"""The roles the rooms rely on. `bootstrap` decides who plays them; `tests/contracts` holds one law per role."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, TypeVarTuple

from llm_engineering.domain.answers import Feedback, Usage
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, EmbeddingSpec, Facets, Hit, IndexSpec, Search, Where
from llm_engineering.domain.documents import Document, WarehouseRef
from llm_engineering.domain.errors import StoreCorrupt
from llm_engineering.domain.ledger import DocumentFailure, LedgerEntry, Outcome
from llm_engineering.domain.models import ModelVersion, Stage
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.prompts import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# --- personal data -----------------------------------------------------------------------------------------


class Erased(NamedTuple):
    """`remains`: what could not be reached from here and how to be rid of it; empty when nothing is left."""

    number: int
    remains: str = ""


class PersonalData(Protocol):
    """Keeps something of authors, and can be rid of one. `bootstrap` lists all of these for `poe forget`."""

    def holds(self, subject: DataSubject) -> int:
        """How many pieces name them or were made from their writing. Raises StoreUnavailable."""

    def erase(self, subject: DataSubject) -> Erased:
        """Leave no byte of them, not in free pages, logs or unfinished files either; others' data stays. Repeating
        it finishes what was cut short. Raises StoreUnavailable."""


# --- the warehouse -----------------------------------------------------------------------------------------


class PutResult(NamedTuple):
    inserted: int
    updated: int
    unchanged: int


class Restored(NamedTuple):
    """`newer`: left alone, because what is stored is newer than what was given."""

    inserted: int
    updated: int
    unchanged: int
    newer: int


class Change(NamedTuple):
    """`document` is None when it was deleted, or when it is damaged: then `error` says so. `token` means: everything
    up to and including this is done."""

    document_id: str
    document: Document | None
    token: str
    error: StoreCorrupt | None = None


class Warehouse(PersonalData, Protocol):
    """Keeps what the crawlers found, one document per canonical link, and tells what changed since.

    What is read is what was written: a body that does not fit its `content_hash` raises StoreCorrupt."""

    @property
    def ref(self) -> WarehouseRef:
        """Which one this is. Its id stays for as long as it lives; another one's is never the same."""

    def adopt(self, warehouse_id: str) -> None:
        """Go on as the warehouse of which this is to be a copy. Does nothing once something was stored here."""

    def put(self, documents: Iterable[Document]) -> PutResult:
        """Upsert, all or nothing per call. A new revision is written only when `content_hash` differs;
        an unchanged document costs no write and makes no change event. Raises AuthorErased as `Ledger.begin` says."""

    def erasures(self) -> int:
        """How often an author was erased, whoever it was."""

    def get(self, document_id: str) -> Document | None:
        """Raises StoreCorrupt."""

    def documents(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[Document]:
        """Ordered by id; streams. Raises StoreCorrupt."""

    def ids(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[str]:
        """As `documents`, without their bodies."""

    def count(self, *, author_id: str | None = None) -> int: ...

    def delete(self, document_ids: Iterable[str]) -> int:
        """Leave tombstones for the change feed; returns how many existed."""

    def changes(self, since: str | None) -> Iterator[Change]:
        """What happened after `since` (None: from the beginning), each document's latest state at least once, until
        caught up. A damaged document does not end it (see `Change.error`). Raises TokenExpired when the feed no longer
        reaches back that far."""

    def authors(self) -> dict[str, int]:
        """name -> how many documents, by name."""

    def restore(self, documents: Iterable[Document]) -> Restored:
        """As `put`, but with the documents' own revisions and dates; what is stored stays when it is newer."""

    def erase(self, subject: DataSubject) -> Erased:
        """As `PersonalData`, of documents; tombstones, which hold an id only, stay for the change feed."""

    def close(self) -> None: ...


class Ledger(PersonalData, Protocol):
    """Keeps one record per link: its last outcome and why; and one per document that could not be indexed."""

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        """Upsert by link. Raises AuthorErased as `begin` says."""

    def entry(self, link: str) -> LedgerEntry | None: ...

    def entries(
        self, *, author_id: str | None = None, outcome: Outcome | tuple[Outcome, ...] | None = None
    ) -> Iterator[LedgerEntry]:
        """Ordered by link; streams."""

    def begin(self, author_id: str, fingerprint: str) -> datetime:
        """When the unfinished run of this author with this fingerprint began; now, if there is none.

        From here to `finish`, once the author was erased by whomever, this ledger and its warehouse raise AuthorErased
        instead of writing anything of theirs."""

    def finish(self, author_id: str, fingerprint: str) -> None: ...

    def record_document_failures(self, failures: Iterable[DocumentFailure]) -> None:
        """Upsert by document."""

    def resolve_document_failures(self, document_ids: Iterable[str]) -> None:
        """Forget them: these documents are indexed now, or deleted."""

    def document_failures(self, *, author_id: str | None = None) -> Iterator[DocumentFailure]:
        """Ordered by document id; streams."""


# --- the vector store --------------------------------------------------------------------------------------


class IndexInfo(NamedTuple):
    spec: IndexSpec
    token: str | None  # the change feed's, up to which the index is complete
    chunks: int
    version: str
    warehouse: WarehouseRef | None = None  # the one it was filled from; None: not recorded


class VectorReader(Protocol):
    """Answers from the published index, and follows a newly published one without being reopened."""

    def info(self) -> IndexInfo | None:
        """None when nothing was ever published."""

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        """Nearest first. `vector` searches the dense vectors, `text` BM25; both are fused by the engine (RRF).
        Raises EmbeddingMismatch when what is published was built with another spec; an index without a revision is
        read, and the log says once that it wants a rebuild."""

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        """One list of hits per search, in one round trip to the engine. Raises as `search`."""

    def facets(self) -> Facets:
        """Of the version being read; remembered until another one is published."""

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        """Every chunk, streamed, ordered by id: for evaluation and golden sets, never for answering."""

    def count(self, where: Where | None = None) -> int: ...

    def close(self) -> None: ...


class IndexWriter(Protocol):
    """The one writer of an index. What it wrote is visible to readers after `publish`, or earlier on a server."""

    token: str | None  # where to go on reading the change feed

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        """document id -> content hash, for those of the given documents that have chunks here."""

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        """document id -> ids of its stored chunks; a document without chunks is absent."""

    def document_ids(self) -> set[str]: ...

    def replace(self, document_ids: Sequence[str], new: Sequence[EmbeddedChunk], kept: Sequence[Chunk]) -> None:
        """Make `new` and `kept` all there is of these documents. `kept` are chunks whose vector is stored already:
        only their payload is written. Nothing given for a document removes it. Validates before it writes."""

    def checkpoint(self, token: str | None) -> None:
        """Everything so far is durable, and a writer opened after a crash goes on from `token`."""

    def publish(self) -> IndexInfo:
        """Make it what readers see, atomically."""


class VectorStore(Protocol):
    """Holds the embedded chunks, rebuildable from the warehouse at any time."""

    def reader(self, spec: IndexSpec | None = None) -> VectorReader:
        """`spec` None: whatever is published, for tools that only count or erase."""

    def writer(
        self, spec: IndexSpec, *, rebuild: bool = False, warehouse: WarehouseRef | None = None
    ) -> AbstractContextManager[IndexWriter]:
        """Raises StoreLocked while another writer is open, EmbeddingMismatch when the published index has another
        spec, or no revision recorded, and `rebuild` is False. With `rebuild` it starts empty (token None) beside the
        live one. `warehouse` is recorded as what the index is filled from; None: as it was."""

    def document_ids(self) -> set[str]:
        """Of every document that has chunks in what is published. Raises StoreCorrupt."""

    def erase(self, author_id: str) -> int:
        """Remove an author's chunks from everything on disk, unpublished builds too; returns chunks removed."""


class Embedder(Protocol):
    """Turns texts into vectors of one size."""

    @property
    def spec(self) -> EmbeddingSpec:
        """With a revision: other weights, another spec."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """(len(texts), spec.size), rows of unit length, in the order given."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the encoder sees it, without truncation, special tokens included."""


class TokenEmbedder(Embedder, Protocol):
    """An embedder that also gives one vector per token, for late interaction (MaxSim)."""

    def embed_tokens(self, texts: Sequence[str]) -> "list[NDArray[np.float32]]":
        """One (tokens, spec.size) array per text, rows of unit length, without special tokens. Longer texts are cut at
        `spec.max_tokens`. Raises ConfigError when the model has no vectors of single tokens."""


# --- answering ---------------------------------------------------------------------------------------------


class Reranker(Protocol):
    """Says how well each text answers the question."""

    name: str

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Higher is better; comparable within one call."""


class LanguageModel(Protocol):
    """Writes text from a prompt."""

    name: str
    generative: bool  # False: only quotes passages (extractive), so it cannot rewrite or expand questions

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        """Text in pieces, then one Usage. Ends early, and frees what it holds, when `stop` says so or the iterator
        is closed. Raises ModelUnavailable, also half-way."""

    def check(self) -> str:
        """One line about what is there. Raises ModelUnavailable that says how to mend it."""


class Trace(Protocol):
    """One request's record. Recording never raises and never blocks."""

    id: str

    def stage(self, name: str, **facts: object) -> AbstractContextManager[dict[str, object]]:
        """Times a stage; what is put into the dict it gives is recorded with it."""

    def finish(self, **facts: object) -> None: ...


class Tracer(PersonalData, Protocol):
    """Keeps traces: question, rewrites, hits with scores, prompt, tokens, time per stage."""

    def start(self, name: str, **facts: object) -> Trace: ...

    def recent(self, limit: int) -> list[dict]:
        """Newest first; empty where traces are kept elsewhere."""

    def ids_about(self, subject: DataSubject) -> frozenset[str]:
        """Of the traces that hold something of them, follow-up questions in the same conversation too: feedback names
        these ids. Raises StoreUnavailable."""

    def close(self) -> None:
        """Flush for a bounded time."""


class FeedbackBook(PersonalData, Protocol):
    """Keeps what readers thought of answers."""

    def add(self, feedback: Feedback) -> None:
        """Durable when it returns; raises StoreUnavailable."""

    def all(self) -> Iterator[Feedback]:
        """Oldest first."""


# --- the model registry ------------------------------------------------------------------------------------


class Registry(Protocol):
    """Keeps the versions of models, numbered from 1, and says which one is in use."""

    def register(self, name: str, folder: Path, *, facts: Mapping[str, str | float] | None = None) -> ModelVersion:
        """Copy the transformers model in `folder` into the store, or leave it there when it lies in it already. All or
        nothing; the same weights with the same facts are one version. Raises ConfigError when `folder` holds no whole
        model or a name or a fact cannot be kept, StoreUnavailable."""

    def promote(self, name: str, version: int, stage: Stage = Stage.PRODUCTION) -> ModelVersion:
        """The version that was in that stage steps back to archived. Raises ModelNotFound, StoreUnavailable, and
        StoreCorrupt when weights that would be used from now on are not what was registered."""

    def find(self, name: str, which: int | Stage = Stage.PRODUCTION) -> ModelVersion:
        """Raises ModelNotFound, which names what there is, StoreCorrupt when its files are missing or were changed,
        StoreUnavailable."""

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """By name, newest first; also those whose files were damaged."""

    def flag_erased(self, name: str, version: int, author_id: str) -> ModelVersion:
        """Note on a version that an author of its training data was erased since. Raises as `promote`."""


# --- reading the world -------------------------------------------------------------------------------------


class Fetched(NamedTuple):
    """One answer. `text` is decoded; `body` is the decompressed bytes."""

    url: str  # after redirects
    status: int
    media_type: str  # lower case, without parameters
    text: str
    body: bytes
    etag: str | None = None
    last_modified: str | None = None


class Fetcher(Protocol):
    """Asks a web address politely and safely."""

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = ("text/", "application/xhtml+xml", "application/pdf"),
    ) -> Fetched:
        """Raises SourceError, or NotModified when the validators still hold. `accept` are media type prefixes;
        anything else raises SourceError(WRONG_TYPE)."""

    def close(self) -> None: ...


class Browser(Protocol):
    """The last rung: a real browser that runs the page's scripts."""

    def get(self, url: str) -> Fetched:
        """The page's HTML after its scripts ran and it stopped growing. Raises SourceError."""

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        """Fill the form at `url` (CSS selector -> text) and press `submit`. Raises SourceError(LOGIN)."""

    def close(self) -> None: ...


class Checkout(NamedTuple):
    path: Path
    commit: str


class Repositories(Protocol):
    """Fetches git repositories, without ever asking for a password."""

    def head(self, url: str, *, branch: str | None = None) -> str:
        """The commit the branch (None: the default one) points to. Raises SourceError(GIT)."""

    def checkout(self, url: str, *, branch: str | None = None) -> AbstractContextManager[Checkout]:
        """A shallow copy in a temporary folder, removed on exit. Raises SourceError(GIT | TOO_LARGE | TIMEOUT)."""


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Sandbox(Protocol):
    """Calls functions on what a stranger wrote, each within a budget of time and memory: it stops nothing else."""

    def submit(self, function: Callable[[*Ts], T], *arguments: *Ts, size: int = 0) -> Future[T]:
        """The result, later; whatever the function raises is raised by the future, and OverBudget when it took too
        much. `function` is a plain function of a module, and may run elsewhere at the same time as others; `size`, in
        characters or bytes, is what it works on."""

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FetchContext:
    """What a source may reach for. `browser` is called only when needed, and may say there is none (SourceError);
    what a stranger wrote is parsed in the `sandbox`."""

    fetch: Fetcher
    browser: Callable[[], Browser]
    repositories: Repositories
    sandbox: Sandbox
    credentials: Callable[[str], tuple[str, str] | None] = lambda service: None
    max_file_bytes: int | None = None  # of one file of a repository; None: no limit
