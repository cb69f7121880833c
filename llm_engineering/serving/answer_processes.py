"""Processes that answer side by side, so that no question can keep the server from the others, or from its signals.

Text of requests is worked on in them only. Quoting takes one interpreter for one question at a time, so there are
several, each for one; where a model elsewhere writes, each works on several; where the model is in memory here, it is
there once, in one process that works on all. One pool behind one server, and not uvicorn's workers, which share a
socket unevenly: of 2 of them 16 clients wait longer (p95 363 ms against 252 ms here, 282 ms of one process), half of
the chat page's sessions lose their events (20 of 40), and rates, quotas, waiting places and metrics would be each
worker's own. The server's part of a question is 1.7 of 12.1 ms of the processor.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.answers import AnswerEvent, Feedback, Question, Usage
from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.domain.prompts import Prompt
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import Component, NotReady, Readiness, SearchResult
from llm_engineering.serving.log import log_to_stderr
from llm_engineering.serving.worker_process import Lost, WorkerProcess
from llm_engineering.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
CHECK_EVERY = 0.2  # seconds between two looks at the clocks of all calls
CLOSES_WITHIN = 3.0  # seconds for what the processes still write down; then they are killed


class AnswerProcesses:
    """Plays `Service` by `processes` processes that do, each with the whole platform opened.

    A question goes to the process with the fewest. One that is worked on for more than the setting says
    (`api_work_seconds`, waiting for a model not counted) fails with WorkTimeout, and its process is replaced; those
    that wait or are worked on beside it are asked again elsewhere, as long as nothing of their answer was told; else,
    and when a process dies, they fail with NotReady. The second and later ones start once the first has loaded, so
    that waiting for the first is not made longer.
    """

    def __init__(self, platform: Platform, config: AskConfig, *, processes: int, slots: int = 1) -> None:
        self._local = AnswerService(platform, config)  # never loaded: for what needs no index and no model
        opened = partial(OpenedService, platform.settings, config, processes)
        seconds = platform.settings.api_work_seconds
        self._workers = [WorkerProcess(opened, slots=slots, seconds=seconds) for _ in range(processes)]
        self._choosing = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._check, name="clocks of answers", daemon=True).start()

    def load(self) -> None:
        for worker in self._workers:
            worker.start()
            worker.tried.wait()

    def ready(self) -> Readiness:
        try:
            return self._result(AnswerService.ready)
        except NotReady as error:
            return Readiness(components=(Component(name="answers", ready=False, reason=str(error)),))

    def models(self) -> tuple[str, ...]:
        return self._local.models()

    def answer(
        self,
        question: Question,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[AnswerEvent]:
        options = {"max_tokens": max_tokens, "temperature": temperature}
        return self._results(AnswerService.answer, (question,), options, streams=True, stop=stop)

    def search(self, question: Question) -> SearchResult:
        return self._result(AnswerService.search, question)

    def feedback(self, feedback: Feedback) -> None:
        self._local.feedback(feedback)

    def facets(self) -> Facets:
        return self._result(AnswerService.facets)

    def titles(self, limit: int) -> tuple[str, ...]:
        return self._result(AnswerService.titles, limit)

    def close(self) -> None:
        self._closed.set()
        for worker in self._workers:
            worker.close()
        end = time.monotonic() + CLOSES_WITHIN
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def abandon(self) -> None:
        """As `close`, at once; from a signal handler too, whatever else is being done."""
        for worker in self._workers:
            worker.abandon()

    def _result(self, method: Callable[Concatenate[AnswerService, P], T], *given: P.args, **options: P.kwargs) -> T:
        [result] = self._results(method, given, options)
        return result

    def _results(
        self,
        method: Callable,
        given: tuple,
        options: Mapping[str, object],
        *,
        streams: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator:
        """Made once more where another call ended the process before anything of this one was told."""
        told, tries = False, 2
        while True:
            tries -= 1
            with self._choosing:
                worker = self._least_busy()
                call = worker.submit(_on_service, method, *given, streams=streams, **options)
            try:
                for result in call.results(stop):
                    told = True
                    yield result
                return
            except Lost as error:
                if told or not tries or not error.innocent:
                    raise
            finally:
                worker.stop(call)

    def _least_busy(self) -> WorkerProcess:
        loaded = [worker for worker in self._workers if worker.loaded.is_set()]
        if not loaded:
            raise NotReady("the server cannot answer yet: it is still being loaded")
        return min(loaded, key=lambda one: one.calls)

    def _check(self) -> None:
        while not self._closed.wait(CHECK_EVERY):
            for worker in self._workers:
                worker.check()


# --- in a process ----------------------------------------------------------------------------------------------------


class OpenedService:
    """An AnswerService with the platform it stands on; `tell` says whether a question waits for its model."""

    def __init__(self, settings: Settings, config: AskConfig, share: int, tell: Callable[[str], None]) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // share)))  # before torch is there
        log_to_stderr()
        self._opened = ExitStack()
        platform = self._opened.enter_context(open_platform(settings))
        self.service = AnswerService(platform, config, wrapped=partial(WaitedFor, tell=tell))
        self._opened.callback(self.service.close)

    def load(self) -> None:
        self.service.load()

    def close(self) -> None:
        self._opened.close()


def _on_service(
    opened: OpenedService, method: Callable[Concatenate[AnswerService, P], T], *given: P.args, **options: P.kwargs
) -> T:
    return method(opened.service, *given, **options)


class WaitedFor:
    """A language model that writes, as it is; to wait for it is no work on the question."""

    def __init__(self, model: LanguageModel, *, tell: Callable[[str], None]) -> None:
        self._model, self._tell = model, tell
        self.generative = model.generative

    @property
    def name(self) -> str:
        return self._model.name

    def check(self) -> str:
        return self._model.check()

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        pieces = self._model.stream(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop)
        if not self.generative:
            yield from pieces
            return
        self._tell("waiting")
        try:
            yield from pieces
        finally:
            self._tell("working")
