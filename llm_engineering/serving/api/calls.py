"""Where a request is worked on: the service behind its bounded threads. The routes and the chat page share one."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from loguru import logger

from llm_engineering.domain.answers import Answer, Question
from llm_engineering.serving.api import schemas, sse
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.api.metrics import Metrics
from llm_engineering.serving.api.service import Event, Piece, Readiness, Service
from llm_engineering.serving.api.worker_pool import Workers

if TYPE_CHECKING:
    from fastapi import Request

T = TypeVar("T")
Through = Callable[[Iterator[Event], Callable[[], bool]], Iterator[Any]]
READY_HOLDS = 1.0  # seconds for which one look at the pieces is believed


@dataclass(kw_only=True)
class Calls:
    """`loaded` is set when the service's loading has ended, in whatever way."""

    service: Service
    workers: Workers
    limits: Limits
    metrics: Metrics
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = field(default_factory=lambda: int(time.time()))
    _bug: bool = False  # loading met one
    _look: "asyncio.Future[Readiness] | None" = None
    _looked: float = 0.0

    def load(self) -> None:
        """Begin to have the service loaded, in a thread of its own that does not keep the process from ending."""
        threading.Thread(target=self._load, args=(asyncio.get_running_loop(),), name="load", daemon=True).start()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.service.load()
        except Exception:
            logger.exception("loading the service met a bug")
            self._bug = True
        with suppress(RuntimeError):  # the loop is closed: the server has ended meanwhile
            loop.call_soon_threadsafe(self.loaded.set)

    async def ask(self, request: "Request", question: Question, **options: Any) -> Answer:
        """The whole answer. The model is stopped when the client leaves."""
        return await sse.unless_client_leaves(self._whole(owner_of(request), question, options), request.receive)

    async def _whole(self, owner: str | None, question: Question, options: dict[str, Any]) -> Answer:
        async with aclosing(self.events(owner, question, through=_answers_only, **options)) as events:
            return await anext(events)

    async def events(
        self, owner: str | None, question: Question, *, through: Through | None = None, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """What the service tells on its way to an answer, counted for the metrics; or what `through` makes of that, in
        the worker's thread. Closing this stops the model. Raises what the service raises, and Trouble."""
        schemas.check_context(question, characters=self.limits.context_characters)
        answers: list[Answer] = []

        def start(stop: Callable[[], bool]) -> Iterator[Any]:
            told = _noted(self.service.answer(question, stop=stop, **options), answers)
            return through(told, stop) if through else told

        outcome = self.metrics.abandoned
        try:
            async with aclosing(self.workers.stream(start, owner=owner, seconds=self.limits.answer_seconds)) as events:
                async for event in events:
                    yield event
            if not answers:
                raise RuntimeError("the service ended without an answer")
        except Exception:
            outcome = self.metrics.failed
            raise
        finally:
            if answers:
                self.metrics.answered(answers[0])
            else:
                outcome()

    async def work(self, owner: str | None, work: Callable[[], T]) -> T:
        """What `work()` gives. Raises what it raises, and Trouble."""
        return await self.workers.run(work, owner=owner, seconds=self.limits.answer_seconds)

    async def blocking(self, request: "Request", work: Callable[[], T]) -> T:
        """The same for a client, who may leave."""
        return await sse.unless_client_leaves(self.work(owner_of(request), work), request.receive)

    async def readiness(self) -> Readiness:
        """Looked at in a thread that questions do not use, one at a time, and believed for a second."""
        if self._bug:
            return _not_ready("loading it met a bug, which the server's log explains")
        if self._look is None or (self._look.done() and time.monotonic() - self._looked > READY_HOLDS):
            self._look, self._looked = asyncio.ensure_future(asyncio.to_thread(self.service.ready)), time.monotonic()
        done, _ = await asyncio.wait({self._look}, timeout=self.limits.ready_seconds)
        if done:
            return self._look.result()
        return _not_ready(f"nothing was heard for {self.limits.ready_seconds:g} seconds: a store may hang")


def _not_ready(reason: str) -> Readiness:
    return Readiness(pieces=(Piece(name="service", ready=False, reason=reason),))


def _noted(events: Iterator[Event], answers: list[Answer]) -> Iterator[Event]:
    with closing(events):
        for event in events:
            if isinstance(event, Answer):
                answers.append(event)
            yield event


def _answers_only(events: Iterator[Event], stop: Callable[[], bool]) -> Iterator[Event]:
    """Spares the event loop the pieces nobody will see."""
    with closing(events):
        for event in events:
            if stop():
                return
            if isinstance(event, Answer):
                yield event


def owner_of(request: Any) -> str | None:
    """The id of the key that the gate found. Of a request of Starlette or of Gradio."""
    key = getattr(request.state, "key", None)
    return key.id if key else None
