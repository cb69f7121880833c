"""A small real service for the tests of the API, and a real server on loopback in front of it.

The service answers from a script: `answers` says what comes after the passages, piece by piece; an exception in it is
raised there, a `threading.Event` is waited for.
"""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

from passages import passage

from llm_engineering.domain.answers import (
    Answer,
    AnswerEvent,
    Citation,
    Delta,
    Feedback,
    ParsedQuestion,
    Passage,
    Question,
    Usage,
)
from llm_engineering.domain.errors import BadQuestion
from llm_engineering.serving.api.service import Component, IndexStatus, Readiness, SearchResult

BREAD = Passage(
    number=1,
    chunk=passage(0, text="Flour, water and salt make bread.", title="Baking"),
    score=0.9,
    text="before Flour, water and salt make bread. after",
)
WAIT = 60.0  # seconds that a test waits for an event; it fails when they are over


class ScriptedService:
    def __init__(self, *script) -> None:
        self.script = script or ("Flour, water and salt ", "make bread [1].")
        self.questions: list[Question] = []
        self.options: list[dict] = []
        self.stored: list[Feedback] = []
        self.broken: Exception | None = None  # raised by everything but `ready`
        self.components: tuple[Component, ...] = (Component(name="index", ready=True),)
        self.index = IndexStatus(version="000001", embedder="hashing", chunks=1)
        self.loaded, self.closed = threading.Event(), threading.Event()
        self.begun = threading.Semaphore(0)  # released by every answer that begins
        self.ended = threading.Semaphore(0)  # and by every one that ends, in whatever way
        self.stopped = 0  # answers that were ended before their end

    def load(self) -> None:
        self.loaded.set()

    def close(self) -> None:
        self.closed.set()

    def ready(self) -> Readiness:
        return Readiness(components=self.components, index=self.index)

    def models(self) -> tuple[str, ...]:
        return "llm-twin", "scripted"

    def answer(self, question, *, max_tokens=None, temperature=None, stop=lambda: False) -> Generator[AnswerEvent]:
        self.questions.append(question)
        self.options.append({"max_tokens": max_tokens, "temperature": temperature})
        self.begun.release()
        whole = False
        try:
            self._check(question)
            understood = ParsedQuestion(queries=(question.text,), where=question.where)
            yield understood
            yield (BREAD,)
            said = ""
            for one in self.script:
                if isinstance(one, Exception):
                    raise one
                if isinstance(one, threading.Event):
                    while not one.wait(0.01) and not stop():
                        pass
                    if stop():
                        return
                    continue
                said += one
                yield Delta(text=one)
            whole = True
            yield Answer(
                text=said,
                answered=True,
                passages=(BREAD,),
                citations=(Citation(passage=1, quote="Flour", start=7, end=12),),
                model="scripted",
                usage=Usage(prompt_tokens=7, completion_tokens=5),
                understood=understood,
                trace_id="trace-1",
            )
        finally:
            self.stopped += not whole
            self.ended.release()

    def search(self, question: Question) -> SearchResult:
        self.questions.append(question)
        self._check(question)
        return SearchResult(
            understood=ParsedQuestion(queries=(question.text,), where=question.where), passages=(BREAD,)
        )

    def feedback(self, feedback: Feedback) -> None:
        if self.broken:
            raise self.broken
        self.stored.append(feedback)

    def _check(self, question: Question) -> None:
        if self.broken:
            raise self.broken
        if not question.text.strip():
            raise BadQuestion("ask something: the question is empty")


@contextmanager
def serving(app, **options) -> Generator[str]:
    """The address of a real server on a free port of loopback, which ends in order."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="on", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(WAIT)
            assert not thread.is_alive(), "the server did not end"
