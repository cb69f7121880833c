"""What features writes into the vector store and inference reads from it."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.noun import Noun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbeddingSpec(Noun):
    """Features and inference agree on this, or they do not meet at all. `max_tokens` counts the special ones.

    `revision` stands for the weights and all else that decides the vectors, so a model trained further is another one.
    """

    model_id: str
    revision: str | None = None  # None: of an index built before revisions were recorded
    size: int
    max_tokens: int = 256

    def can_read(self, built: "EmbeddingSpec") -> bool:
        """Whether vectors built with `built` may be searched with this; a revision not recorded is taken on trust."""
        return built == (self if built.revision else self.model_copy(update={"revision": None}))

    def __str__(self) -> str:
        revision = f"revision {self.revision[:12]}" if self.revision else "no revision recorded"
        return f"{self.model_id} ({self.size} numbers, {self.max_tokens} tokens, {revision})"


class ChunkingSpec(Noun):
    """How text was cut. `max_tokens` per chunk (0: as many as the embedder takes), `window` characters around it."""

    max_tokens: int = 0
    window: int = 1200


class IndexSpec(Noun):
    """What an index was built with; another spec is another index."""

    embedding: EmbeddingSpec
    chunking: ChunkingSpec = ChunkingSpec()

    def can_read(self, built: "IndexSpec") -> bool:
        """As `EmbeddingSpec.can_read`; the chunking must be the same."""
        return self.embedding.can_read(built.embedding) and self.chunking == built.chunking

    def __str__(self) -> str:
        tokens, window = self.chunking.max_tokens or self.embedding.max_tokens, self.chunking.window
        return f"embedder {self.embedding}, chunks of {tokens} tokens in windows of {window} characters"

    @property
    def name(self) -> str:
        """Safe as a folder and as a collection name."""
        safe = "".join(c if c.isalnum() else "-" for c in self.embedding.model_id.lower())
        return f"chunks--{safe}--{self.embedding.size}--{content_hash(self.model_dump_json())[:8]}"


class Chunk(Noun):
    """One passage. `start` and `end` are character offsets into the cleaned text; `text` is exactly that slice.

    `window` is the wider passage around it that a reader (or a prompt) wants to see. The id depends on the
    document and the text, not on the position, so an edit elsewhere in the document does not change it.
    """

    id: str
    document_id: str
    content_hash: str  # of the document
    link: str
    url: str
    title: str
    author_id: str
    author_name: str
    kind: Kind
    source: str
    published_at: datetime | None = None
    headings: tuple[str, ...] = ()  # the breadcrumb above the passage, outermost first
    text: str
    window: str
    start: int
    end: int
    tokens: int


class EmbeddedChunk(NamedTuple):
    chunk: Chunk
    vector: "Sequence[float] | NDArray[np.floating]"


class Where(Noun):
    """A filter: every given field must hold; a tuple means any of."""

    author_id: str | tuple[str, ...] | None = None
    kind: Kind | tuple[Kind, ...] | None = None
    source: str | tuple[str, ...] | None = None
    document_id: str | tuple[str, ...] | None = None
    published_from: datetime | None = None  # inclusive
    published_to: datetime | None = None  # exclusive


class Hit(Noun):
    chunk: Chunk
    score: float


class Search(Noun):
    """One query to the engine. With both `vector` and `text` the engine fuses the two lists (weighted RRF)."""

    vector: tuple[float, ...] | None = None
    text: str | None = None
    dense_weight: float = 1.0
    bm25_weight: float = 1.0


class Facets(Noun):
    """What the published index holds, for filters and for matching names."""

    authors: dict[str, str] = {}  # id -> name
    kinds: dict[Kind, int] = {}  # -> chunks
    sources: dict[str, int] = {}  # -> chunks
    published_from: datetime | None = None
    published_to: datetime | None = None
