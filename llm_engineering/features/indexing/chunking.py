"""A cleaned document into the chunks that the vector store keeps."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llm_engineering.domain.chunks import Chunk, ChunkingSpec
from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.ports import Embedder
from llm_engineering.domain.text import storable_in_place
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.indexing.splitting import SMALLEST_LIMIT, CountTokens, Piece, Span, first_cut, fitted
from llm_engineering.features.indexing.windows import Headings, window

_WORD = re.compile(r"[^\W_]")


class Cut(NamedTuple):
    """A cleaned text that every store keeps, and its pieces before their tokens are counted."""

    cleaned: Cleaned
    pieces: list[Piece]


def cut(cleaned: Cleaned, max_tokens: int) -> Cut:
    """NUL and lone surrogates, which no store keeps, become U+FFFD one for one."""
    kept = cleaned._replace(text=storable_in_place(cleaned.text), title=storable_in_place(cleaned.title))
    return Cut(kept, first_cut(kept.text, kept.syntax, max_tokens))


def chunks_of_all(
    documents: Sequence[tuple[Document, Cut]], *, max_tokens: int, window_size: int, count_tokens: CountTokens
) -> list[list[Chunk]]:
    """Every character of each cleaned text, in order, but for passages without a letter or digit, by which nobody finds
    anything. The tokens of all are counted at once. What a document says about its title and its date goes before what
    its body says."""
    texts = [cut.cleaned.text for _, cut in documents]
    spans = fitted(texts, [cut.pieces for _, cut in documents], max_tokens=max_tokens, count_tokens=count_tokens)
    return [
        list(_chunks(document, cut.cleaned, own, window_size))
        for (document, cut), own in zip(documents, spans, strict=True)
    ]


def _chunks(document: Document, cleaned: Cleaned, spans: list[Span], window_size: int) -> Iterator[Chunk]:
    text = cleaned.text
    headings = Headings(text if cleaned.syntax == "markdown" else "")
    seen: Counter[str] = Counter()
    for span in spans:
        passage = text[span.start : span.end]
        if not _WORD.search(passage):  # a file of brackets would be embedded for minutes
            continue
        seen[passage] += 1
        first_letter = span.start + len(passage) - len(passage.lstrip())
        yield Chunk(
            id=stable_id("chunk", document.id, passage, str(seen[passage])),
            document_id=document.id,
            content_hash=document.content_hash,
            link=document.link,
            url=document.url,
            title=storable_in_place(document.title or cleaned.title),
            author_id=document.author.id,
            author_name=storable_in_place(document.author.name),
            kind=document.kind,
            source=document.source,
            published_at=document.published_at or cleaned.published_at,
            headings=headings.at(first_letter),
            text=passage,
            window=window(text, span.start, span.end, size=window_size),
            start=span.start,
            end=span.end,
            tokens=span.tokens,
        )


def token_limit(chunking: ChunkingSpec, embedder: Embedder) -> int:
    """Tokens per chunk, special ones included. Raises ConfigError when the embedder cannot take that many."""
    most = embedder.spec.max_tokens
    wanted = chunking.max_tokens or most
    if not SMALLEST_LIMIT <= wanted <= most:
        raise ConfigError(
            f"features: chunking.max_tokens is {wanted}; {embedder.spec.model_id} takes {SMALLEST_LIMIT} to {most} "
            "(0: as many as it takes)"
        )
    return wanted
