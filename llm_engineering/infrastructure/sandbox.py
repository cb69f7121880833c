"""Calls in child processes that are killed when they take too much.

concurrent.futures loses every call when one of its processes dies, and pebble sees the wall clock only, by which a
busy machine would kill what is honest. Here the kernel counts each child's own processor time (ITIMER_PROF); its
signal ends a child whatever it is doing, and faulthandler says where it was.
"""

import faulthandler
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from llm_engineering.domain.errors import OverBudget, raised_at
from llm_engineering.infrastructure.child_processes import minimal_environment
from llm_engineering.infrastructure.child_supervisor import PR_SET_PDEATHSIG, prctl

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WALL = 100.0  # seconds on the clock for each of a processor: for what waits instead of working, which no parser does
TRIES = 2  # of a call whose child died of something else, such as the kernel being short of memory
# not multiprocessing's own start, which runs the caller's script once more and hands on every password
CHILD = "import sys; from llm_engineering.infrastructure.sandbox import serve; serve(*map(int, sys.argv[1:]))"
_FRAME = re.compile(r'File "([^"\n]*)", line (\d+)')


class InProcess:
    """Plays `Sandbox` without child and budget: to debug, and for what is trusted."""

    def submit(self, function: Callable[[*Ts], T], *arguments: *Ts, size: int = 0) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


class ProcessSandbox:
    """Plays `Sandbox` with `processes` children, each started when first needed and again after it was killed.

    A call may take `seconds` of a processor, `seconds_per_megabyte` more for each million of its size, and its child
    `memory_bytes` of addresses, where the kernel bounds them.
    """

    def __init__(self, *, processes: int, seconds: float, seconds_per_megabyte: float, memory_bytes: int) -> None:
        self._seconds, self._per_megabyte, self._memory = seconds, seconds_per_megabyte, memory_bytes
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="sandbox")
        self._own = threading.local()  # a child for each thread: it dies with the thread that started it
        self._children: set[_Child] = set()
        self._closed = threading.Event()

    def submit(self, function: Callable[[*Ts], T], *arguments: *Ts, size: int = 0) -> Future[T]:
        seconds = self._seconds + self._per_megabyte * size / 1e6
        return self._threads.submit(self._call, _Task(seconds, function, arguments))

    def close(self) -> None:
        """Kills what is running."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in tuple(self._children):
            child.process.kill()
        self._threads.shutdown()
        while self._children:
            self._children.pop().end()

    def _call(self, task: "_Task") -> Any:
        for _ in range(TRIES):
            child = self._child()
            try:
                answer = child.ask(task)
            except (EOFError, OSError):
                code, place = self._ended(child)
                if self._closed.is_set():
                    raise OverBudget("was not done when the run ended") from None
                if child.overslept:
                    raise OverBudget(f"was not done after {task.seconds * WALL:.3g} s", place) from None
                if code == -signal.SIGPROF:
                    raise OverBudget(f"took more than {task.seconds:.3g} s of a processor", place) from None
            else:
                return self._result(answer)
        raise OverBudget(f"its process died twice, the last time of {_cause(code)}")

    def _child(self) -> "_Child":
        child: _Child | None = getattr(self._own, "child", None)
        if child is not None and child.process.poll() is not None:  # killed while it had nothing to do
            self._ended(child)
            child = None
        if child is None:
            child = self._own.child = _Child(self._memory)
            self._children.add(child)
        return child

    def _ended(self, child: "_Child") -> tuple[int | None, str]:
        self._own.child = None
        self._children.discard(child)
        return child.end()

    def _result(self, answer: "_Answer") -> Any:
        if isinstance(answer.error, MemoryError):
            raise OverBudget(f"took more than {self._memory / 1e6:,.0f} MB of memory", answer.place)
        if answer.error is not None:
            answer.error.add_note(answer.trace)
            vars(answer.error)["raised_at"] = answer.place
            raise answer.error
        return answer.value


def _cause(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


class _Task(NamedTuple):
    seconds: float
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class _Answer(NamedTuple):
    """`place` and `trace` say where `error` was raised, which a pickled exception no longer knows."""

    value: Any = None
    error: Exception | None = None
    place: str = ""
    trace: str = ""


class _Child:
    def __init__(self, memory_bytes: int) -> None:
        self._pipe, theirs = Pipe()
        self._last_words, speaks = Pipe(duplex=False)
        ends = (theirs.fileno(), speaks.fileno())
        self.process = subprocess.Popen(
            [
                sys.executable,
                *(["-B"] if sys.dont_write_bytecode else []),
                "-c",
                CHILD,
                *map(str, (*ends, memory_bytes, os.getpid())),
            ],
            env=minimal_environment(more={"PYTHONPATH": os.pathsep.join(sys.path)}),
            stdin=subprocess.DEVNULL,
            pass_fds=ends,
        )
        theirs.close()
        speaks.close()
        self._begun = self.overslept = False

    def ask(self, task: _Task) -> _Answer:
        """Raises EOFError or OSError when the child is gone; then `end` says why."""
        if not self._begun:
            self._begun = self._pipe.recv()  # the clock runs from here on
        self._pipe.send(task)
        if not self._pipe.poll(task.seconds * WALL):
            self.overslept = True
            self.process.send_signal(signal.SIGPROF)
            raise EOFError
        return self._pipe.recv()

    def end(self) -> tuple[int | None, str]:
        """Its exit code, and where it was when its time was up."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.process.kill()
        self.process.wait()
        words = os.read(self._last_words.fileno(), 1 << 16).decode("utf-8", "replace")
        self._pipe.close()
        self._last_words.close()
        return self.process.returncode, _place(words)


def _place(dump: str) -> str:
    """As `raised_at`, of what faulthandler wrote."""
    frames = _FRAME.findall(dump)
    places = [f"{'/'.join(path.split('/')[-2:])}:{line}" for path, line in frames]
    ours = [f"{path.rpartition('/llm_engineering/')[2]}:{line}" for path, line in frames if "/llm_engineering/" in path]
    return f"{places[0]}, called from {ours[0]}" if ours else "".join(places[:1])


# --- in the child ----------------------------------------------------------------------------------------------------


def serve(pipe_descriptor: int, last_words: int, memory_bytes: int, parent: int) -> None:
    pipe = Connection(pipe_descriptor)
    _restrict(memory_bytes, parent)
    faulthandler.register(signal.SIGPROF, file=last_words, all_threads=False, chain=True)
    pipe.send(True)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, task.seconds)
        answer = _pickled(_answer(task))
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send_bytes(answer)


def _restrict(memory_bytes: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if os.getppid() != parent:
        os._exit(1)


def _answer(task: _Task) -> _Answer:
    try:
        return _Answer(task.function(*task.arguments))
    except Exception as error:
        return _Answer(error=error, place=raised_at(error), trace=traceback.format_exc())


def _pickled(answer: _Answer) -> bytes:
    try:
        data = pickle.dumps(answer)
        if answer.error is not None:
            pickle.loads(data)  # not every exception can be built again from its arguments
    except Exception as error:
        cause = answer.error or error
        stands_in = cause if isinstance(cause, MemoryError) else RuntimeError(f"{type(cause).__name__}: {cause}")
        return pickle.dumps(answer._replace(value=None, error=stands_in))
    return data
