"""Chunks made up for the tests of the vector stores. No two are equally long: engines rank equal scores each their
own way."""

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from llm_engineering.domain.chunks import Chunk, ChunkingSpec, EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.ports import IndexInfo, VectorStore

SIZE = 8
SPEC = IndexSpec(embedding=EmbeddingSpec(model_id="hashing", revision="1", size=SIZE))
OTHER = IndexSpec(embedding=EmbeddingSpec(model_id="hashing", revision="1", size=16))
RETRAINED = IndexSpec(embedding=SPEC.embedding.model_copy(update={"revision": "2"}))
UNRECORDED = IndexSpec(embedding=SPEC.embedding.model_copy(update={"revision": None}))  # as indexes were built before
RECUT = IndexSpec(embedding=SPEC.embedding, chunking=ChunkingSpec(max_tokens=100))

_random = Random(3)
VECTORS = [[_random.gauss(0, 1) for _ in range(SIZE)] for _ in range(80)]
COLOURS = ("red", "green", "blue", "white", "black")
DAYS = [datetime(2024, 1, day, 12, tzinfo=UTC) for day in range(1, 29)]


def name(i: int) -> str:
    """A word that only passage `i` has."""
    return f"z{'abcdefghij'[i // 10]}q{'klmnoprtuv'[i % 10]}x"


def passage(
    i: int, *, document: int | None = None, text: str | None = None, version: str = "v1", **other: Any
) -> Chunk:
    document = i // 4 if document is None else document
    text = f"passage {name(i)} speaks of {COLOURS[i % 5]} things" + " indeed" * i if text is None else text
    document_id = stable_id("document", str(document))
    author = Author(name=f"Author {document % 3}")
    chunk = Chunk(
        id=stable_id("chunk", document_id, text),
        document_id=document_id,
        content_hash=version,
        link=f"https://example.com/{document}",
        url=f"https://example.com/{document}?ref=1",
        title=f"Page {document}",
        author_id=author.id,
        author_name=author.name,
        kind=(Kind.ARTICLE, Kind.POST)[document % 2],
        source=("web_article", "medium")[document % 2],
        published_at=DAYS[document] if document < len(DAYS) else None,
        headings=("First", "Second"),
        text=text,
        window=f"before {text} after",
        start=i,
        end=i + len(text),
        tokens=9,
    )
    return Chunk(**(dict(chunk) | other)) if other else chunk


def embedded(i: int, **fields: Any) -> EmbeddedChunk:
    return EmbeddedChunk(passage(i, **fields), VECTORS[i])


def fill(
    store: VectorStore,
    chunks: Sequence[EmbeddedChunk],
    *,
    spec: IndexSpec = SPEC,
    token: str | None = "t1",
    rebuild: bool = False,
) -> IndexInfo:
    with store.writer(spec, rebuild=rebuild) as writer:
        writer.replace(sorted({c.chunk.document_id for c in chunks}), chunks, [])
        writer.checkpoint(token)
        return writer.publish()


def everything(store: VectorStore, spec: IndexSpec = SPEC) -> dict[str, Chunk]:
    reader = store.reader(spec)
    hits = reader.search(vector=VECTORS[0], limit=max(reader.count(), 1))
    reader.close()
    return {hit.chunk.id: hit.chunk for hit in hits}
