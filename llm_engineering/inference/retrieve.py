"""The passages that are likely to answer a question."""

from llm_engineering.domain.chunks import Hit, IndexSpec, Where
from llm_engineering.domain.errors import EmbeddingMismatch, LLMTwinError
from llm_engineering.domain.ports import Embedder, VectorReader, VectorStore


def open_index(vectors: VectorStore, *, embedder: Embedder) -> VectorReader:
    """A reader of what is published, which `embedder` may ask.

    Raises EmbeddingMismatch when another embedder built it, LLMTwinError when nothing is published yet.
    """
    probe = vectors.reader()
    info = probe.info()
    probe.close()
    if info is None:
        raise LLMTwinError("nothing is indexed yet: run `poe run-etl`, then `poe run-features`")
    if info.spec.embedding != embedder.spec:
        raise EmbeddingMismatch(
            f"the index was built with {info.spec.embedding}, and you ask with {embedder.spec}: "
            "set TWIN_EMBEDDER to the first, or run `poe run-features --rebuild` to build it with the second"
        )
    return vectors.reader(IndexSpec(embedding=embedder.spec, chunking=info.spec.chunking))


def retrieve(
    question: str, *, embedder: Embedder, reader: VectorReader, limit: int, where: Where | None = None
) -> list[Hit]:
    """Best first, by meaning (dense) and by words (BM25), fused."""
    [vector] = embedder.embed([question])
    return reader.search(vector=vector, text=question, where=where, limit=limit)
