"""Stored documents become passages. What goes wrong with one of them is that document's outcome, and no other's."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.documents import Document
from llm_engineering.domain.ledger import DocumentFailure, Reason
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.indexing.chunking import chunks_of_all
from llm_engineering.features.indexing.failures import Stage, failure_by, failure_of
from llm_engineering.features.indexing.splitting import CountTokens
from llm_engineering.features.sources import Source

Prepared = list[Chunk] | DocumentFailure


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Cleans and cuts. `timed` measures a block under a name: "cleaning" or "splitting"."""

    sources: Sequence[Source]
    max_tokens: int
    window_size: int
    count_tokens: CountTokens
    code_version: str
    timed: Callable[[str], AbstractContextManager[None]]

    def __call__(self, documents: Sequence[Document]) -> list[Prepared]:
        """What each document comes to: never an empty list. Raises nothing of a document's but MemoryError."""
        with self.timed("cleaning"):
            cleaned = [(document, self._clean(document)) for document in documents]
        with self.timed("splitting"):
            cut = iter(
                self._cut([(document, one) for document, one in cleaned if not isinstance(one, DocumentFailure)])
            )
        return [one if isinstance(one, DocumentFailure) else next(cut) for _, one in cleaned]

    def _clean(self, document: Document) -> Cleaned | DocumentFailure:
        source = next((source for source in self.sources if source.name == document.source), None)
        if source is None:
            return self._failure(document, Reason.NO_SOURCE, f"no source is called {document.source!r} any more")
        try:
            return source.clean(document.body, document.media_type)
        except Exception as error:
            return self._failure_by(error, "clean", document)

    def _cut(self, cleaned: list[tuple[Document, Cleaned]]) -> list[Prepared]:
        """All at once, because that is faster; after an error each alone, to find whose it is."""
        try:
            cut = chunks_of_all(
                cleaned, max_tokens=self.max_tokens, window_size=self.window_size, count_tokens=self.count_tokens
            )
        except Exception as error:
            if len(cleaned) > 1:
                return [outcome for one in cleaned for outcome in self._cut([one])]
            return [self._failure_by(error, "cut", document) for document, _ in cleaned]
        return [
            chunks or self._failure(document, Reason.EMPTY, "nothing was left after cleaning")
            for (document, _), chunks in zip(cleaned, cut, strict=True)
        ]

    def _failure(self, document: Document, reason: Reason, detail: str) -> DocumentFailure:
        return failure_of(document.id, document, reason, detail, self.code_version)

    def _failure_by(self, error: Exception, stage: Stage, document: Document) -> DocumentFailure:
        if isinstance(error, MemoryError):  # the machine's outcome
            raise error
        return failure_by(error, stage, document.id, document, self.code_version)
