"""What the API needs somebody to do; the answer service plays this role."""

from collections.abc import Callable, Generator
from typing import Protocol

from llm_engineering.domain.answers import AnswerEvent, Feedback, ParsedQuestion, Passage, Question
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.noun import Noun


class NotReady(LLMTwinError):
    """The models or the index are still being loaded, or nothing is indexed yet; says which."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WorkTimeout(LLMTwinError):
    """The server has worked on one request for longer than it may; it was given up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"this request took more than {seconds:g} seconds of work, and was given up: ask for less")
        self.seconds = seconds

    def __reduce__(self):
        return type(self), (self.seconds,)


class Component(Noun):
    """One thing an answer needs. `reason` says what is wrong with it, without paths; empty when it is ready."""

    name: str
    ready: bool
    reason: str = ""


class IndexStatus(Noun):
    version: str
    embedder: str
    chunks: int


class Readiness(Noun):
    components: tuple[Component, ...]
    index: IndexStatus | None = None

    @property
    def ready(self) -> bool:
        return all(component.ready for component in self.components)


class SearchResult(Noun):
    """What a search gives: the passages, and what was searched."""

    understood: ParsedQuestion
    passages: tuple[Passage, ...]


class Service(Protocol):
    """Answers questions. Its methods block, are called from many threads, and raise what the ports raise."""

    def load(self) -> None:
        """Load models and index; called once, in a thread of its own. What fails is told by `ready`, never raised."""

    def ready(self) -> Readiness:
        """Quick, and honest at this moment."""

    def models(self) -> tuple[str, ...]:
        """The names that may be asked for; the first is the default."""

    def answer(
        self,
        question: Question,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[AnswerEvent]:
        """What was understood, the passages, the answer in pieces, then the whole of it. Closing it, or `stop`
        saying so, stops the model. Raises BadQuestion, NotReady, WorkTimeout, ModelUnavailable,
        StoreUnavailable, EmbeddingMismatch, at any point."""

    def search(self, question: Question) -> SearchResult:
        """As `answer`, up to the passages."""

    def feedback(self, feedback: Feedback) -> None:
        """Durable when it returns. Raises StoreUnavailable."""

    def close(self) -> None: ...
