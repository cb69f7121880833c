"""What stands behind the API: the inference room with the platform's parts (`Service` of serving/api)."""

from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice

from loguru import logger

from llm_engineering.bootstrap import Platform, build_reranker
from llm_engineering.domain.answers import Answer, AnswerEvent, Feedback, Question
from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.errors import LLMTwinError, ModelUnavailable
from llm_engineering.domain.ports import LanguageModel, Reranker
from llm_engineering.inference.answer import AnswerContext, answer_stream
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.retrieval.retrieve import find_passages, open_index
from llm_engineering.inference.understanding.understand import understand
from llm_engineering.serving.api.errors import api_error_of
from llm_engineering.serving.api.service import Component, IndexStatus, NotReady, Readiness, SearchResult
from llm_engineering.serving.chat.filters import example_titles
from llm_engineering.serving.model_health import ModelHealth
from llm_engineering.serving.reopening_reader import ReopeningReader

MODEL_NAME = "llm-twin"
EMPTY = "the index is empty: run `poe run-etl`, then `poe run-features`"


class AnswerService:
    """Opens nothing before `load`. What is missing then is looked for again at every request."""

    def __init__(
        self,
        platform: Platform,
        config: AskConfig,
        *,
        wrapped: Callable[[LanguageModel], LanguageModel] = lambda model: model,
    ) -> None:
        """`wrapped`: what answers instead of the platform's model."""
        self._platform, self._config, self._wrapped = platform, config, wrapped
        self._embedder = Component(name="embedder", ready=False, reason="it is still being loaded")
        self._reader: ReopeningReader | None = None
        self._health: ModelHealth | None = None
        self._reranker: Reranker | None = None

    def load(self) -> None:
        try:
            embedder = self._platform.embedder
            embedder.embed(["loaded before the first question"])
            self._reranker = build_reranker(self._platform.settings, self._config.retrieval, embedder)
            if self._reranker is not None:
                self._reranker.scores("loaded", ["before the first question"])
            self._reader = ReopeningReader(lambda: open_index(self._platform.vectors, embedder=embedder))
            self._health = ModelHealth(self._wrapped(self._platform.language_model))
            self._health.check()
            self._embedder = Component(name="embedder", ready=True)
        except LLMTwinError as error:
            self._embedder = Component(name="embedder", ready=False, reason=api_error_of(error).message)
            logger.error("the server cannot answer: {}", error)

    def ready(self) -> Readiness:
        if not self._embedder.ready or self._reader is None or self._health is None:
            return Readiness(components=(self._embedder,))
        index, status = _check_index(self._reader)
        return Readiness(components=(self._embedder, index, self._health.component()), index=status)

    def models(self) -> tuple[str, ...]:
        kind, _, name = self._platform.settings.language_model.partition(":")
        if kind == "transformers":
            name = self._platform.language_model.name  # of a folder its last part: where it lies is nobody's business
        return MODEL_NAME, name or kind

    def answer(
        self,
        question: Question,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[AnswerEvent]:
        reader, health = self._loaded()
        began = health.now()
        context = AnswerContext(
            embedder=self._platform.embedder,
            reader=reader,
            model=health.model,
            reranker=self._reranker,
            config=self._config_with(max_tokens=max_tokens, temperature=temperature),
            trace=self._platform.tracer.start("answer"),
            stop=stop,
        )
        with closing(answer_stream(question, context)) as events:
            try:
                for event in events:
                    if isinstance(event, Answer) and event.passages:  # without, the model was not asked
                        health.answered()
                    yield event
            except ModelUnavailable as error:
                health.failed(error, began)
                raise

    def _config_with(self, **options: float | None) -> AskConfig:
        given = {name: value for name, value in options.items() if value is not None}
        return self._config.model_copy(update={"answer": self._config.answer.model_copy(update=given)})

    def search(self, question: Question) -> SearchResult:
        reader, health = self._loaded()
        understood = understand(
            question,
            facets=reader.facets(),
            model=health.model,
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
        return self._loaded()[0].facets()

    def titles(self, limit: int) -> tuple[str, ...]:
        """Of some of the documents there are. Raises as `answer`."""
        return example_titles(islice(self._loaded()[0].sample(), 50 * limit), limit)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _loaded(self) -> tuple[ReopeningReader, ModelHealth]:
        if not self._embedder.ready or self._reader is None or self._health is None:
            raise NotReady(f"the server cannot answer yet: {self._embedder.reason}")
        if not self._reader.facets().kinds:
            raise NotReady(EMPTY, retry_after=60)
        return self._reader, self._health


def _check_index(reader: ReopeningReader) -> tuple[Component, IndexStatus | None]:
    try:
        info, chunks = reader.info(), reader.count()
    except LLMTwinError as error:
        return Component(name="index", ready=False, reason=api_error_of(error).message), None
    if info is None or not chunks:
        return Component(name="index", ready=False, reason=EMPTY), None
    status = IndexStatus(version=info.version, embedder=info.spec.embedding.model_id, chunks=chunks)
    return Component(name="index", ready=True), status
