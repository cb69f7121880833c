"""Stored documents become passages. What goes wrong with one of them is that document's outcome, and no other's."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.documents import Document
from llm_engineering.domain.ledger import DocumentFailure, Reason
from llm_engineering.domain.ports import Sandbox
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.indexing.chunking import Cut, chunks_of_all, cut
from llm_engineering.features.indexing.failures import Failed, failure_of, logged_failure
from llm_engineering.features.indexing.splitting import CountTokens
from llm_engineering.features.sources import Source

Prepared = list[Chunk] | DocumentFailure


def clean_and_cut(clean: Callable[[str, str], Cleaned], body: str, media_type: str, max_tokens: int) -> Cut | Failed:
    """What is done with one document in the sandbox. Raises MemoryError only, which is the sandbox's matter."""
    try:
        cleaned = clean(body, media_type)
    except MemoryError:
        raise
    except Exception as error:
        return Failed.by(error, "clean")
    try:
        return cut(cleaned, max_tokens)
    except MemoryError:
        raise
    except Exception as error:
        return Failed.by(error, "cut")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Cleans and cuts. `timed` measures a block under a name: "cleaning", of which the first cut is a part, or
    "splitting"."""

    sources: Sequence[Source]
    sandbox: Sandbox
    max_tokens: int
    window_size: int
    count_tokens: CountTokens
    code_version: str
    timed: Callable[[str], AbstractContextManager[None]]

    def __call__(self, documents: Sequence[Document]) -> list[Prepared]:
        """What each document comes to: never an empty list. Raises nothing of a document's."""
        with self.timed("cleaning"):
            begun = [self._begin(document) for document in documents]
            cuts = [one if isinstance(one, DocumentFailure) else self._finished(one) for one in begun]
        with self.timed("splitting"):
            whole = [(document, one) for document, one in zip(documents, cuts, strict=True) if isinstance(one, Cut)]
            chunks = iter(self._chunks(whole))
        return [
            next(chunks) if isinstance(one, Cut) else self._failure(document, one) if isinstance(one, Failed) else one
            for document, one in zip(documents, cuts, strict=True)
        ]

    def _begin(self, document: Document) -> Future[Cut | Failed] | DocumentFailure:
        source = next((source for source in self.sources if source.name == document.source), None)
        if source is None:
            return self._unlogged(document, Reason.NO_SOURCE, f"no source is called {document.source!r} any more")
        body, media_type = document.body, document.media_type
        return self.sandbox.submit(clean_and_cut, source.clean, body, media_type, self.max_tokens, size=len(body))

    def _finished(self, begun: Future[Cut | Failed]) -> Cut | Failed:
        try:
            return begun.result()
        except MemoryError:  # the machine's outcome
            raise
        except Exception as error:
            return Failed.by(error, "clean or cut")

    def _chunks(self, whole: list[tuple[Document, Cut]]) -> list[Prepared]:
        """All at once, because that is faster; after an error each alone, to find whose it is."""
        try:
            chunks = chunks_of_all(
                whole, max_tokens=self.max_tokens, window_size=self.window_size, count_tokens=self.count_tokens
            )
        except MemoryError:
            raise
        except Exception as error:
            if len(whole) > 1:
                return [outcome for one in whole for outcome in self._chunks([one])]
            return [self._failure(document, Failed.by(error, "cut")) for document, _ in whole]
        return [
            own or self._unlogged(document, Reason.EMPTY, "nothing was left after cleaning")
            for (document, _), own in zip(whole, chunks, strict=True)
        ]

    def _failure(self, document: Document, failed: Failed) -> DocumentFailure:
        return logged_failure(failed, document.id, document, self.code_version)

    def _unlogged(self, document: Document, reason: Reason, detail: str) -> DocumentFailure:
        return failure_of(document.id, document, reason, detail, self.code_version)
