"""Where a request is worked on: the service behind its bounded threads. The routes and the chat page share one."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from loguru import logger

from llm_engineering.domain.answers import Answer, AnswerEvent, Question
from llm_engineering.domain.noun import Noun
from llm_engineering.serving.api import schemas, sse
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.api.metrics import Metrics
from llm_engineering.serving.api.service import Component, Readiness, Service
from llm_engineering.serving.api.worker_pool import Stop, WorkerPool

if TYPE_CHECKING:
    from fastapi import Request

T = TypeVar("T")
READY_HOLDS = 1.0  # seconds for which one look at the components is believed


class AnswerOptions(Noun):
    """Of one request; None: as configured."""

    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(kw_only=True)
class Calls:
    """`loaded` is set when the service's loading has ended, in whatever way."""

    service: Service
    workers: WorkerPool
    limits: Limits
    metrics: Metrics
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = field(default_factory=lambda: int(time.time()))
    _load_failed: bool = False
    _readiness: "asyncio.Future[Readiness] | None" = None
    _readiness_from: float = 0.0

    def load(self) -> None:
        """Begin to have the service loaded, in a thread of its own that does not keep the process from ending."""
        threading.Thread(target=self._load, args=(asyncio.get_running_loop(),), name="load", daemon=True).start()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.service.load()
        except Exception:
            logger.exception("loading the service met a bug")
            self._load_failed = True
        with suppress(RuntimeError):  # the loop is closed: the server has ended meanwhile
            loop.call_soon_threadsafe(self.loaded.set)

    async def answer(self, request: "Request", question: Question, options: AnswerOptions) -> Answer:
        """The whole answer. The model is stopped when the client leaves."""
        return await sse.until_disconnect(self._whole_answer(key_id(request), question, options), request.receive)

    async def _whole_answer(self, owner: str | None, question: Question, options: AnswerOptions) -> Answer:
        events = self.transformed(owner, question, _only_the_answer, options)
        async with aclosing(events):
            return await anext(events)

    def events(self, owner: str | None, question: Question, options: AnswerOptions) -> AsyncGenerator[AnswerEvent]:
        """What the service tells on its way to an answer, counted for the metrics. Closing this stops the model. Raises
        what the service raises, and ApiError. `owner` is the id of the key that asks."""
        return self.transformed(owner, question, lambda events, stop: events, options)

    async def transformed(
        self,
        owner: str | None,
        question: Question,
        transform: Callable[[Generator[AnswerEvent], Stop], Generator[T]],
        options: AnswerOptions,
    ) -> AsyncGenerator[T]:
        """As `events`, of what `transform` makes of them in the worker's thread."""
        length = schemas.check_context(question, characters=self.limits.context_characters)
        answers: list[Answer] = []

        def start(stop: Stop) -> Generator[T]:
            events = self.service.answer(question, stop=stop, **options.model_dump())
            return transform(_collecting(events, answers), stop)

        count = self.metrics.abandoned
        try:
            async with aclosing(
                self.workers.stream(start, owner=owner, seconds=self.limits.answer_seconds, length=length)
            ) as results:
                async for result in results:
                    yield result
            if not answers:
                raise RuntimeError("the service ended without an answer")
        except Exception:
            count = self.metrics.failed
            raise
        finally:
            if answers:
                self.metrics.answered(answers[0])
            else:
                count()

    async def run(self, owner: str | None, work: Callable[[], T], *, length: int = 0) -> T:
        """What `work()` gives, which reads `length` characters. Raises what it raises, and ApiError."""
        return await self.workers.run(work, owner=owner, seconds=self.limits.answer_seconds, length=length)

    async def run_for(self, request: "Request", work: Callable[[], T], *, length: int = 0) -> T:
        """The same for a client, who may leave."""
        return await sse.until_disconnect(self.run(key_id(request), work, length=length), request.receive)

    async def readiness(self) -> Readiness:
        """Looked at in a thread that questions do not use, one at a time, and believed for a second."""
        if self._load_failed:
            return _not_ready("loading it met a bug, which the server's log explains")
        known = self._readiness
        if known is None or (known.done() and time.monotonic() - self._readiness_from > READY_HOLDS):
            known = self._readiness = asyncio.ensure_future(asyncio.to_thread(self.service.ready))
            self._readiness_from = time.monotonic()
        done, _ = await asyncio.wait({known}, timeout=self.limits.ready_seconds)
        if done:
            return known.result()
        return _not_ready(f"nothing was heard for {self.limits.ready_seconds:g} seconds: a store may hang")


def _not_ready(reason: str) -> Readiness:
    return Readiness(components=(Component(name="service", ready=False, reason=reason),))


def _collecting(events: Generator[AnswerEvent], answers: list[Answer]) -> Generator[AnswerEvent]:
    with closing(events):
        for event in events:
            if isinstance(event, Answer):
                answers.append(event)
            yield event


def _only_the_answer(events: Generator[AnswerEvent], stop: Stop) -> Generator[Answer]:
    """Spares the event loop the events nobody will see."""
    with closing(events):
        for event in events:
            if stop():
                return
            if isinstance(event, Answer):
                yield event


def key_id(request: "Request") -> str | None:
    """Of the key that the middleware found. Gradio's request has the same `state`."""
    key = getattr(request.state, "key", None)
    return key.id if key else None
