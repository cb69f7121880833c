"""Several processes that answer side by side: one Python interpreter works on one question at a time."""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from typing import Any

from loguru import logger

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.answers import Feedback, Question
from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import Event, NotReady, Piece, Readiness, SearchResult
from llm_engineering.settings import Settings

EVENT, END, ERROR = "event", "end", "error"
LISTEN = 0.1  # seconds between two looks whether whoever asked has left
ENDS_WITHIN = 10.0  # seconds for what a process still writes down
SOON_AGAIN, MOST_PAUSE = 1.0, 30.0  # seconds before a process that died is started again, doubled each time


class AnswerProcesses:
    """Plays `Service` by having `processes` processes play it, each with the whole platform opened.

    A question goes to the process with the fewest. When that process dies the question fails with NotReady, and
    another process takes its place. The second and later ones start once the first has loaded, so that waiting for
    the first is not made longer.
    """

    def __init__(self, platform: Platform, config: AskConfig, *, processes: int) -> None:
        self._here = AnswerService(platform, config)  # never loaded: for what needs no index and no model
        self._answerers = [_AnswerProcess(platform.settings, config, share=processes) for _ in range(processes)]

    def load(self) -> None:
        atexit.register(self.close)  # also when the server could not end in order
        for one in self._answerers:
            one.start()
            one.tried.wait()

    def ready(self) -> Readiness:
        try:
            return self._asked("ready")
        except NotReady as error:
            return Readiness(pieces=(Piece(name="answers", ready=False, reason=str(error)),))

    def models(self) -> tuple[str, ...]:
        return self._here.models()

    def answer(
        self,
        question: Question,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        options = {"max_tokens": max_tokens, "temperature": temperature}
        with self._fewest().line() as line:
            yield from line.events("answer", question, stop=stop, **options)

    def search(self, question: Question) -> SearchResult:
        return self._asked("search", question)

    def feedback(self, feedback: Feedback) -> None:
        self._here.feedback(feedback)

    def facets(self) -> Facets:
        return self._asked("facets")

    def titles(self, limit: int) -> tuple[str, ...]:
        return self._asked("titles", limit)

    def close(self) -> None:
        for one in self._answerers:
            one.end()
        for one in self._answerers:
            one.ended()
        atexit.unregister(self.close)

    def _asked(self, method: str, *arguments: Any) -> Any:
        with self._fewest().line() as line:
            [result] = line.events(method, *arguments)
            return result

    def _fewest(self) -> "_AnswerProcess":
        loaded = [one for one in self._answerers if one.loaded.is_set()]
        if not loaded:
            raise NotReady("the server cannot answer yet: it is still being loaded")
        return min(loaded, key=lambda one: one.busy)


class _AnswerProcess:
    """One process, started again when it dies, and the lines to it."""

    def __init__(self, settings: Settings, config: AskConfig, *, share: int) -> None:
        self.loaded, self.busy = threading.Event(), 0
        self.tried = threading.Event()  # loaded, or ended before that
        self._given, self._ending = (settings, config, share), threading.Event()
        self._lock = threading.Lock()
        self._address: Any = None
        self._key = os.urandom(32)
        self._idle: list[_Line] = []
        self._watch = threading.Thread(target=self._keep_alive, name="answerer", daemon=True)
        self._process: BaseProcess | None = None
        self._lifeline: Connection | None = None

    def start(self) -> None:
        if not self._ending.is_set():
            self._watch.start()

    def _keep_alive(self) -> None:
        pause = SOON_AGAIN
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                self._live()
            except OSError as error:
                logger.error("the machine gives no process to answer with: {}", error)
                self.tried.set()
            if self._ending.is_set():
                return
            pause = SOON_AGAIN if time.monotonic() - began > MOST_PAUSE else min(2 * pause, MOST_PAUSE)
            logger.error("a process that answers has ended by itself; another is started in {:g} s", pause)
            self._ending.wait(pause)

    def _live(self) -> None:
        """From the start of the process to its end, whichever way that comes."""
        lifeline, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=work, args=(theirs, self._key, *self._given), daemon=True)
        process.start()
        theirs.close()
        self._process, self._lifeline = process, lifeline
        with lifeline, suppress(EOFError, OSError):
            self._address = lifeline.recv()
            lifeline.recv()
            self.loaded.set()
            self.tried.set()
            if self._ending.is_set():
                lifeline.send("end")
            lifeline.recv()  # it never says more: this waits for its end
        self.loaded.clear()
        self.tried.set()
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()
        process.join(ENDS_WITHIN)
        if process.is_alive():
            process.kill()
            process.join()

    @contextmanager
    def line(self) -> Iterator["_Line"]:
        """To say one thing and hear the answer. It is used again only when the answer was heard to its end."""
        with self._lock:
            self.busy += 1
            line = self._idle.pop() if self._idle else None
        try:
            line = line or _Line(self._address, self._key)
            try:
                yield line
            finally:
                if line.at_rest and self.loaded.is_set():
                    with self._lock:
                        self._idle.append(line)
                else:
                    line.close()
        finally:
            with self._lock:
                self.busy -= 1

    def end(self) -> None:
        self._ending.set()
        self.tried.set()
        if self.loaded.is_set():
            with suppress(OSError):
                self._lifeline.send("end")
        elif self._process is not None:  # it has nothing to write down
            self._process.kill()

    def ended(self) -> None:
        if self._watch.is_alive():
            self._watch.join(2 * ENDS_WITHIN)


class _Line:
    def __init__(self, address: Any, key: bytes) -> None:
        self.at_rest = True
        with _lost_is_not_ready():
            self._connection = Client(address, authkey=key)

    def events(self, method: str, *arguments: Any, stop: Callable[[], bool] = lambda: False, **options: Any) -> Any:
        self.at_rest = False
        with _lost_is_not_ready():
            self._connection.send((method, arguments, options))
            while True:
                while not self._connection.poll(LISTEN):
                    if stop():
                        return
                kind, value = self._connection.recv()
                self.at_rest = kind != EVENT
                if kind == ERROR:
                    raise value
                if kind == END:
                    return
                yield value

    def close(self) -> None:
        """The process notices, and stops what it was doing for this line."""
        self._connection.close()


@contextmanager
def _lost_is_not_ready() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise NotReady("the process that was to answer has ended; ask again", retry_after=SOON_AGAIN) from error


# --- in the process --------------------------------------------------------------------------------------------------


def work(lifeline: Connection, key: bytes, settings: Settings, config: AskConfig, share: int) -> None:
    """Answer whoever calls, until the other end of `lifeline` says so or is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started this ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // share)))  # before torch is there
    from tools.serve import log_to_stderr

    log_to_stderr()
    with open_platform(settings) as platform, Listener(authkey=key) as listener:
        service = AnswerService(platform, config)
        threading.Thread(target=_take_calls, args=(listener, service), daemon=True).start()
        with suppress(EOFError, OSError):
            lifeline.send(listener.address)
            service.load()
            lifeline.send("loaded")
            lifeline.recv()
        service.close()


def _take_calls(listener: Listener, service: AnswerService) -> None:
    while True:
        try:
            caller = listener.accept()
        except OSError:  # closed: it is over
            return
        threading.Thread(target=_converse, args=(caller, service), daemon=True).start()


def _converse(caller: Connection, service: AnswerService) -> None:
    with caller, suppress(EOFError, OSError):
        while True:
            method, arguments, options = caller.recv()
            try:
                if method == "answer":  # nothing is said meanwhile, so what can be read is the end
                    with closing(service.answer(*arguments, stop=caller.poll, **options)) as events:
                        for one in events:
                            caller.send((EVENT, one))
                else:
                    caller.send((EVENT, getattr(service, method)(*arguments)))
                caller.send((END, None))
            except (EOFError, OSError):
                raise
            except LLMTwinError as error:
                caller.send((ERROR, error))
            except Exception as error:
                logger.exception("answering met a bug")
                caller.send((ERROR, RuntimeError(f"{type(error).__name__}: {error}")))
