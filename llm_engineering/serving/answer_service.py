"""What stands behind the API: the inference room with the platform's parts (`Service` of serving/api)."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from threading import Lock, Thread
from typing import TypeVar

from loguru import logger

from llm_engineering.bootstrap import Platform, build_reranker
from llm_engineering.domain.answers import Answer, Feedback, Question
from llm_engineering.domain.chunks import Chunk, Facets, Hit, Search, Where
from llm_engineering.domain.errors import EmbeddingMismatch, LLMTwinError, ModelUnavailable
from llm_engineering.domain.ports import IndexInfo, LanguageModel, VectorReader
from llm_engineering.inference.answer import AnswerContext, answer_stream
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.retrieval.retrieve import find_passages, open_index
from llm_engineering.inference.understanding.understand import understand
from llm_engineering.serving.api.errors import api_error_of
from llm_engineering.serving.api.service import Event, IndexFacts, NotReady, Piece, Readiness, SearchResult
from llm_engineering.serving.chat.filters import some_titles

T = TypeVar("T")
TWIN = "llm-twin"
CHECK_EVERY, CHECK_AGAIN = 15.0, 2.0  # seconds between two looks at the language model, when it was well and when not
EMPTY = "the index is empty: run `poe run-etl`, then `poe run-features`"


class AnswerService:
    """Opens nothing before `load`. What is missing then is looked for again at every request."""

    def __init__(self, platform: Platform, config: AskConfig) -> None:
        self._platform, self._config = platform, config
        self._embedder = Piece(name="embedder", ready=False, reason="it is still being loaded")
        self._reader: _FollowingReader | None = None
        self._model_watch: _ModelWatch | None = None
        self._reranker = None

    def load(self) -> None:
        try:
            embedder = self._platform.embedder
            embedder.embed(["loaded before the first question"])
            self._reranker = build_reranker(self._platform.settings, self._config.retrieval, embedder)
            if self._reranker is not None:
                self._reranker.scores("loaded", ["before the first question"])
            self._reader = _FollowingReader(lambda: open_index(self._platform.vectors, embedder=embedder))
            self._model_watch = _ModelWatch(self._platform.language_model)
            self._model_watch.look()
            self._embedder = Piece(name="embedder", ready=True)
        except LLMTwinError as error:
            self._embedder = Piece(name="embedder", ready=False, reason=api_error_of(error).message)
            logger.error("the server cannot answer: {}", error)

    def ready(self) -> Readiness:
        if not self._embedder.ready or self._reader is None or self._model_watch is None:
            return Readiness(pieces=(self._embedder,))
        index, facts = self._look_at_index(self._reader)
        return Readiness(pieces=(self._embedder, index, self._model_watch.piece()), index=facts)

    def _look_at_index(self, reader: "_FollowingReader") -> tuple[Piece, IndexFacts | None]:
        try:
            info = reader.info()
            chunks = reader.count()
        except LLMTwinError as error:
            return Piece(name="index", ready=False, reason=api_error_of(error).message), None
        if info is None or not chunks:
            return Piece(name="index", ready=False, reason=EMPTY), None
        facts = IndexFacts(version=info.version, embedder=info.spec.embedding.model_id, chunks=chunks)
        return Piece(name="index", ready=True), facts

    def models(self) -> tuple[str, ...]:
        kind, _, name = self._platform.settings.language_model.partition(":")
        if kind == "transformers":
            name = self._platform.language_model.name  # of a folder its last part: where it lies is nobody's business
        return TWIN, name or kind

    def answer(
        self,
        question: Question,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        reader, watch = self._parts()
        chosen = {"max_tokens": max_tokens, "temperature": temperature}
        given = {name: value for name, value in chosen.items() if value is not None}
        config = self._config.model_copy(update={"answer": self._config.answer.model_copy(update=given)})
        context = AnswerContext(
            embedder=self._platform.embedder,
            reader=reader,
            model=watch.model,
            reranker=self._reranker,
            config=config,
            trace=self._platform.tracer.start("answer"),
            stop=stop,
        )
        steps = answer_stream(question, context)
        began = time.monotonic()
        try:
            for step in steps:
                if isinstance(step, Answer) and step.passages:  # without, the model was not asked
                    watch.spoke()
                yield step
        except ModelUnavailable as error:
            watch.failed(error, began)
            raise
        finally:
            steps.close()

    def search(self, question: Question) -> SearchResult:
        reader, watch = self._parts()
        understood = understand(
            question,
            facets=reader.facets(),
            model=watch.model,
            config=self._config.understand,
            today=datetime.now(UTC).date(),
            count=reader.count,
        )
        found = find_passages(
            understood,
            embedder=self._platform.embedder,
            reader=reader,
            reranker=self._reranker,
            config=self._config.retrieval,
            limit=question.limit,
        )
        return SearchResult(understood=understood, passages=found.passages)

    def feedback(self, feedback: Feedback) -> None:
        self._platform.feedback.add(feedback)

    # --- for the chat page ---

    def facets(self) -> Facets:
        """What the index holds, to choose from. Raises as `answer`."""
        return self._parts()[0].facets()

    def titles(self, limit: int) -> tuple[str, ...]:
        """Of some of the documents there are. Raises as `answer`."""
        return some_titles(islice(self._parts()[0].sample(), 50 * limit), limit)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _parts(self) -> "tuple[_FollowingReader, _ModelWatch]":
        if not self._embedder.ready or self._reader is None or self._model_watch is None:
            raise NotReady(f"the server cannot answer yet: {self._embedder.reason}")
        if not self._reader.facets().kinds:
            raise NotReady(EMPTY, retry_after=60)
        return self._reader, self._model_watch


class _FollowingReader:
    """A reader that also follows an index rebuilt with another chunking, which is another index to the store."""

    def __init__(self, opened: Callable[[], VectorReader]) -> None:
        self._open, self._lock = opened, Lock()
        self._reader: VectorReader | None = None

    def info(self) -> IndexInfo | None:
        return self._asked(lambda reader: reader.info())

    def search(
        self, *, vector: Sequence[float] | None = None, text: str | None = None, where: Where | None = None, limit: int
    ) -> list[Hit]:
        return self._asked(lambda reader: reader.search(vector=vector, text=text, where=where, limit=limit))

    def search_many(self, searches: Sequence[Search], *, where: Where | None = None, limit: int) -> list[list[Hit]]:
        return self._asked(lambda reader: reader.search_many(searches, where=where, limit=limit))

    def facets(self) -> Facets:
        return self._asked(lambda reader: reader.facets())

    def sample(self, where: Where | None = None) -> Iterator[Chunk]:
        return self._asked(lambda reader: reader.sample(where))

    def count(self, where: Where | None = None) -> int:
        return self._asked(lambda reader: reader.count(where))

    def close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _asked(self, ask: Callable[[VectorReader], T]) -> T:
        reader = self._current()
        try:
            return ask(reader)
        except EmbeddingMismatch:
            return ask(self._current(instead_of=reader))

    def _current(self, *, instead_of: VectorReader | None = None) -> VectorReader:
        """Raises NotReady when nothing is published, EmbeddingMismatch when it was built with another embedder."""
        with self._lock:
            if self._reader is None or self._reader is instead_of:
                try:
                    fresh = self._open()
                except (EmbeddingMismatch, NotReady):
                    raise
                except LLMTwinError as error:
                    if type(error) is LLMTwinError:
                        raise NotReady(str(error), retry_after=60) from error
                    raise
                self._reader, old = fresh, self._reader
                if old is not None:
                    old.close()
            return self._reader


class _ModelWatch:
    """Whether the language model answers, looked at in the background so that nobody waits for it."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._reason: str | None = "it was not looked at yet"
        self._looked = self._spoke = 0.0
        self._lock = Lock()

    def piece(self) -> Piece:
        """What is known now; a look that is due is begun."""
        age = time.monotonic() - self._looked
        if age > (CHECK_AGAIN if self._reason else CHECK_EVERY) and self._lock.acquire(blocking=False):
            Thread(target=self._look_and_release, name="model check", daemon=True).start()
        return Piece(name="language model", ready=not self._reason, reason=self._reason or "")

    def look(self) -> None:
        began = time.monotonic()
        try:
            self.model.check()
            self.spoke()
        except ModelUnavailable as error:
            self.failed(error, began)

    def spoke(self) -> None:
        self._reason, self._looked = None, time.monotonic()
        self._spoke = self._looked

    def failed(self, error: ModelUnavailable, began: float) -> None:
        """What was begun then could not be done; that says nothing where the model has spoken since."""
        if self._spoke <= began:
            self._reason, self._looked = api_error_of(error).message, time.monotonic()

    def _look_and_release(self) -> None:
        try:
            self.look()
        finally:
            self._lock.release()
