"""Several processes that answer side by side: one Python interpreter works on one question at a time.

Pools of one process each (concurrent.futures) behind one server, and not uvicorn's workers, which share a socket
unevenly: of 2 of them 16 clients wait longer (p95 363 ms against 252 ms here, 282 ms of one process), half of the chat
page's sessions lose their events (20 of 40), and rates, quotas, waiting places and metrics would be each worker's own.
The server's part of a question is 1.7 of 12.1 ms of the processor. One pool of all processes would lose them all when
one dies.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Concatenate, ParamSpec, TypeVar

from loguru import logger

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.answers import AnswerEvent, Feedback, Question
from llm_engineering.domain.chunks import Facets
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import Component, NotReady, Readiness, SearchResult
from llm_engineering.serving.log import log_to_stderr
from llm_engineering.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
LOOK_EVERY = 1.0  # seconds between two looks whether a process lives
STOP_POLL = 0.05  # seconds between two looks whether an answer is still wanted
RESTART_AFTER = 2.0  # seconds before a process that died gets a successor, which may die of the same cause
ENDS_WITHIN = 20.0  # seconds for what a process still writes down


class AnswerProcesses:
    """Plays `Service` by `processes` processes that do, each with the whole platform opened; for answers that are
    quoted, as all events of one come at once.

    A question goes to the process with the fewest. When that process dies the question fails with NotReady, and
    another process takes its place. The second and later ones start once the first has loaded, so that waiting for
    the first is not made longer.
    """

    def __init__(self, platform: Platform, config: AskConfig, *, processes: int) -> None:
        self._local = AnswerService(platform, config)  # never loaded: for what needs no index and no model
        self._workers = [_Worker(platform.settings, config, share=processes) for _ in range(processes)]
        self._choosing = threading.Lock()

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
        future = self._submit(_whole_answer, question, max_tokens=max_tokens, temperature=temperature)
        while not wait([future], STOP_POLL).done:
            if stop():
                future.cancel()
                return
        yield from _result(future)

    def search(self, question: Question) -> SearchResult:
        return self._result(AnswerService.search, question)

    def feedback(self, feedback: Feedback) -> None:
        self._local.feedback(feedback)

    def facets(self) -> Facets:
        return self._result(AnswerService.facets)

    def titles(self, limit: int) -> tuple[str, ...]:
        return self._result(AnswerService.titles, limit)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.join()

    def _result(self, method: Callable[Concatenate[AnswerService, P], T], *given: P.args, **options: P.kwargs) -> T:
        return _result(self._submit(method, *given, **options))

    def _submit(
        self, method: Callable[Concatenate[AnswerService, P], T], *given: P.args, **options: P.kwargs
    ) -> Future[T]:
        with self._choosing:
            loaded = [worker for worker in self._workers if worker.loaded.is_set()]
            if not loaded:
                raise NotReady("the server cannot answer yet: it is still being loaded")
            worker = min(loaded, key=lambda one: len(one.running))
            return worker.submit(partial(_call, method, *given, **options))


class _Worker:
    """One process, replaced when it dies."""

    def __init__(self, settings: Settings, config: AskConfig, *, share: int) -> None:
        self.loaded = threading.Event()
        self.tried = threading.Event()  # to load, for the first time
        self.running: set[Future] = set()
        self._closing = threading.Event()
        self._initializer = partial(_open, settings, config, share)
        self._thread = threading.Thread(target=self._keep_running, name="answer process", daemon=True)
        self._pool: ProcessPoolExecutor | None = None
        self._loading_pid: int | None = None

    def start(self) -> None:
        if not self._closing.is_set():
            self._thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        try:
            assert self._pool is not None, "it is loaded"
            future = self._pool.submit(work)
        except RuntimeError as error:  # it has died, or is being closed
            raise _lost() from error
        self.running.add(future)
        future.add_done_callback(self.running.discard)
        return future

    def _keep_running(self) -> None:
        while not self._closing.is_set():
            try:
                self._run()
            except Exception as error:
                if not self._closing.is_set():
                    logger.error("a process that answers has ended, and gets a successor: {!r}", error)
            finally:
                self.loaded.clear()
                self.tried.set()
            self._closing.wait(RESTART_AFTER)

    def _run(self) -> None:
        """From the start of the process to its end, whichever way that comes."""
        with ProcessPoolExecutor(1, get_context("spawn"), self._initializer) as self._pool:
            self._loading_pid = self._pool.submit(os.getpid).result()
            if not self._closing.is_set():
                self._pool.submit(_call, AnswerService.load).result()
                self._loading_pid = None
                self.loaded.set()
                self.tried.set()
            while not self._closing.wait(LOOK_EVERY):
                self._pool.submit(os.getpid).result()  # BrokenProcessPool when it is gone
            self.loaded.clear()

    def close(self) -> None:
        self._closing.set()
        self.tried.set()
        if (pid := self._loading_pid) is not None:  # loading may take long, and there is nothing to write down
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(ENDS_WITHIN)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except (BrokenProcessPool, CancelledError) as error:
        raise _lost() from error


def _lost() -> NotReady:
    return NotReady("the process that was to answer has ended; ask again", retry_after=RESTART_AFTER)


# --- in the process --------------------------------------------------------------------------------------------------

_service: AnswerService  # of this process


def _open(settings: Settings, config: AskConfig, share: int) -> None:
    global _service
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started this ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // share)))  # before torch is there
    log_to_stderr()
    opened = ExitStack()
    _service = AnswerService(opened.enter_context(open_platform(settings)), config)
    opened.callback(_service.close)
    atexit.register(opened.close)
    threading.Thread(target=_end_with_parent, args=(opened,), daemon=True).start()


def _end_with_parent(opened: ExitStack) -> None:
    """A pool's process waits for work for ever when its parent was killed."""
    if (parent := parent_process()) is not None:
        parent.join()
        opened.close()
        os._exit(1)


def _call(method: Callable[Concatenate[AnswerService, P], T], *given: P.args, **options: P.kwargs) -> T:
    return method(_service, *given, **options)


def _whole_answer(
    service: AnswerService, question: Question, *, max_tokens: int | None, temperature: float | None
) -> list[AnswerEvent]:
    return list(service.answer(question, max_tokens=max_tokens, temperature=temperature))
