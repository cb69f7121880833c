"""A reader of the index that goes on when the index was built in another way."""

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TypeVar

from llm_engineering.domain.chunks import Chunk, Facets, Hit, Search, Where
from llm_engineering.domain.errors import EmbeddingMismatch, LLMTwinError
from llm_engineering.domain.ports import IndexInfo, VectorReader
from llm_engineering.serving.api.service import NotReady

T = TypeVar("T")


class ReopeningReader:
    """A VectorReader that opens the index when it is first asked, and again where it was rebuilt with another chunking,
    which is another index to the store.

    Raises NotReady while nothing is published, EmbeddingMismatch when it was built with another embedder.
    """

    def __init__(self, open_reader: Callable[[], VectorReader]) -> None:
        self._open, self._lock = open_reader, Lock()
        self._reader: VectorReader | None = None

    def info(self) -> IndexInfo | None:
        return self._call(lambda reader: reader.info())

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        return self._call(lambda reader: reader.search(vector=vector, text=text, where=where, limit=limit))

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        return self._call(lambda reader: reader.search_many(searches, where=where, limit=limit))

    def facets(self) -> Facets:
        return self._call(lambda reader: reader.facets())

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        return self._call(lambda reader: reader.sample(where))

    def count(self, where: Where | None = None) -> int:
        return self._call(lambda reader: reader.count(where))

    def close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _call(self, method: Callable[[VectorReader], T]) -> T:
        reader = self._current()
        try:
            return method(reader)
        except EmbeddingMismatch:
            return method(self._current(instead_of=reader))

    def _current(self, *, instead_of: VectorReader | None = None) -> VectorReader:
        with self._lock:
            if self._reader is None or self._reader is instead_of:
                self._reader, old = self._opened(), self._reader
                if old is not None:
                    old.close()
            return self._reader

    def _opened(self) -> VectorReader:
        try:
            return self._open()
        except LLMTwinError as error:
            if type(error) is LLMTwinError:
                raise NotReady(str(error), retry_after=60) from error
            raise
