"""A child process that does work for this one, and is killed when it does not come back.

Text can make any library compute for ever, in C and with the interpreter's lock held, where no thread, signal or
time-out of the same process reaches it. So what requests make the service compute is computed in such processes, and
the one that serves stays free for everybody else and for its signals.
"""

import atexit
import os
import pickle
import queue
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from loguru import logger

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.infrastructure.child_supervisor import PR_SET_PDEATHSIG, prctl
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
from llm_engineering.serving.api.service import NotReady, WorkTimeout

STOP_POLL = 0.05  # seconds between two looks whether a result is still wanted
RESTART_AFTER = 2.0  # seconds before a process that ended gets a successor, which may end of the same cause
ALIVE_EVERY = 1.0  # seconds between two signs of life of a process that works on several calls
IDLE = 8  # times the budget that a call may last while the processor does something else
SILENT = 10.0  # seconds beyond the budget without a sign of life


class Lost(NotReady):
    """The process ended before the call did. `innocent`: another call was the reason, so it may be made again."""

    def __init__(self, *, innocent: bool) -> None:
        super().__init__("the process that was to answer has ended; ask again", retry_after=RESTART_AFTER)
        self.innocent = innocent


class Message(NamedTuple):
    """What a process says: results (`events`, then `end`, or `error`), or how it is (`waiting` for a model that is no
    work of its own, `working` again; `loaded`, `alive` of no call)."""

    call: int | None
    kind: str
    value: Any = None


class Call:
    """One piece of work as whoever waits for it sees it."""

    def __init__(self, number: int, work: tuple[Callable[..., Any], tuple, dict[str, Any]], *, streams: bool) -> None:
        self.number, self.work, self.streams = number, work, streams
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.clock: _Clock | None = None  # None: not begun, or waiting for a model

    def results(self, stop: Callable[[], bool] = lambda: False) -> Generator[Any]:
        """As they come. Raises what the work raised, WorkTimeout and Lost. Ends early when `stop` says so."""
        while True:
            try:
                message = self.messages.get(timeout=STOP_POLL)
            except queue.Empty:
                if stop():
                    return
                continue
            if message.kind == "error":
                raise message.value
            yield from message.value or ()
            if message.kind == "end":
                return

    def fail(self, error: Exception) -> None:
        self.messages.put(Message(self.number, "error", error))


class _Clock(NamedTuple):
    """Seconds: of the world, and of the processor that a process has had."""

    wall: float
    processor: float

    def has_passed(self, seconds: float, now: "_Clock") -> bool:
        wall, processor = now.wall - self.wall, now.processor - self.processor
        return wall > IDLE * seconds or (wall > seconds and processor > seconds)


class WorkerProcess:
    """One process at a time, replaced when it dies, is silent, or works for more than `seconds` on one call. These are
    seconds of the processor too, so that nothing is given up because the machine is busy; waiting for something else
    than a model may take `IDLE` times as long.

    `open()` gives what the calls are made on; it has `load()` and `close()`. At most `slots` calls are worked on side
    by side, further ones wait here.
    """

    _numbers = count()

    def __init__(self, open: Callable[[Callable[[str], None]], Any], *, slots: int, seconds: float) -> None:
        self._open, self._slots, self._seconds = open, slots, seconds
        self.loaded = threading.Event()
        self.tried = threading.Event()  # to load, for the first time
        self._closing = threading.Event()
        self._lock = threading.Lock()  # of the calls
        self._sending = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._running: dict[int, Call] = {}
        self._overran: set[int] = set()
        self._heard = time.monotonic()
        self._connection: Connection | None = None
        self._process: Any = None
        self._folder: TemporaryFolder | None = None  # for its temporary files, which are gone with it
        self._psutil: Any = None
        self._thread = threading.Thread(target=self._keep_running, name="answer process", daemon=True)

    @property
    def calls(self) -> int:
        """How many wait or are worked on."""
        return len(self._waiting) + len(self._running)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        if not self._closing.is_set():
            atexit.register(self.kill)  # multiprocessing would wait for it for ever
            self._thread.start()

    def submit(self, function: Callable[..., Any], *given: Any, streams: bool = False, **options: Any) -> Call:
        """`function(opened, *given, **options)`, there. With `streams` it gets `stop` too and yields its results.
        Raises Lost."""
        call = Call(next(self._numbers), (function, given, options), streams=streams)
        with self._lock:
            if not self.loaded.is_set():
                raise Lost(innocent=True)
            self._waiting.append(call)
        self._send_next()
        return call

    def stop(self, call: Call) -> None:
        """Nobody waits for it any more. One that has begun ends when it notices, or when its time is over."""
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
                return
            if call.number not in self._running:
                return
        self._send(("stop", call.number))

    def check(self) -> None:
        """Kill the process if a call has taken too long, or nothing was heard of it for long. Called every moment."""
        now = self._clock()
        with self._lock:
            over = {
                number
                for number, call in self._running.items()
                if call.clock is not None and call.clock.has_passed(self._seconds, now)
            }
            silent = self._slots > 1 and self._running and now.wall - self._heard > self._seconds + SILENT
            if not self.loaded.is_set() or not (over or silent):
                return
            self.loaded.clear()
            self._overran = over
        logger.error("a process that answers {}; it is replaced", "took too long" if over else "is silent")
        self.kill()

    def _clock(self) -> "_Clock":
        import psutil

        spent = 0.0
        if self._psutil is not None:
            with suppress(psutil.Error):  # it has ended
                times = self._psutil.cpu_times()
                spent = times.user + times.system
        return _Clock(time.monotonic(), spent)

    def kill(self) -> None:
        if self.pid is not None:
            self._process.kill()

    def abandon(self) -> None:
        """No process and no file of it is left. It is not to be used any more."""
        self._closing.set()
        self.kill()
        if self.pid is not None:
            self._process.join(1.0)
        if self._folder is not None:
            self._folder.remove()
            end = time.monotonic() + 1.0
            while self._folder.path.exists() and time.monotonic() < end:  # another thread has begun, and may be cut off
                shutil.rmtree(self._folder.path, ignore_errors=True)

    def close(self) -> None:
        """Told to end; see `join`."""
        loaded = self.loaded.is_set()
        self._closing.set()
        self.tried.set()
        if loaded:
            # it may take nothing any more, and be killed by `join`
            threading.Thread(target=self._send, args=(("close",),), daemon=True).start()
        else:  # loading may take long, and there is nothing to write down
            self.kill()

    def join(self, seconds: float) -> None:
        """Wait so long for it to end by itself; then it is killed."""
        if self._thread.is_alive():
            self._thread.join(seconds)
            self.kill()
            self._thread.join()
        atexit.unregister(self.kill)

    # --- the thread that listens to it ----------------------------------------------------------------------------

    def _keep_running(self) -> None:
        while not self._closing.is_set():
            try:
                self._run()
            except Exception:
                logger.exception("a process that answers could not be started")
            finally:
                self.tried.set()
            if not self._closing.is_set():
                logger.error("a process that answers has ended, and gets a successor")
                self._closing.wait(RESTART_AFTER)

    def _run(self) -> None:
        """From the start of a process to its end, whichever way that comes."""
        import psutil

        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._folder = TemporaryFolder("answers")
        self._process = context.Process(
            target=_work,
            args=(theirs, self._open, self._slots, os.getpid(), str(self._folder.path)),
            name="answers",
            daemon=True,
        )
        try:
            self._process.start()
            self._psutil = psutil.Process(self._process.pid)
            theirs.close()
            if self._closing.is_set():
                return
            while True:
                self._hear(self._connection.recv())
        except (EOFError, OSError):
            pass  # it has ended
        finally:
            self._end()

    def _hear(self, message: Message) -> None:
        self._heard = time.monotonic()
        if message.call is None:
            if message.kind == "loaded":
                self.loaded.set()
                self.tried.set()
            return
        with self._lock:
            call = self._running.get(message.call)
            if call is None:
                return
            if message.kind in ("waiting", "working"):
                call.clock = None if message.kind == "waiting" else self._clock()
                return
            if message.kind != "events":
                del self._running[message.call]
        call.messages.put(message)
        if message.kind != "events":
            self._send_next()

    def _end(self) -> None:
        """Nothing of it is left, and nobody waits for it."""
        with self._lock:
            self.loaded.clear()
            waiting, running = list(self._waiting), list(self._running.values())
            self._waiting.clear()
            self._running.clear()
            overran, self._overran = self._overran, set()
        if self.pid is not None:
            self.kill()
            self._process.join()
        if self._folder is not None:
            self._folder.remove()
        if self._connection is not None:
            self._connection.close()
        for call in running:
            if call.number in overran:
                call.fail(WorkTimeout(self._seconds))
            else:
                call.fail(Lost(innocent=bool(overran)))
        for call in waiting:
            call.fail(Lost(innocent=True))

    def _send_next(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or len(self._running) >= self._slots:
                    return
                call = self._waiting.popleft()
                self._running[call.number] = call
                call.clock = self._clock()
            if not self._send(("call", call.number, call.work, call.streams)):
                return  # it has ended; whoever listens to it tells those who wait

    def _send(self, order: tuple) -> bool:
        try:
            with self._sending:
                assert self._connection is not None, "it has been started"
                self._connection.send(order)
        except (OSError, ValueError):
            return False
        return True


# --- in the process --------------------------------------------------------------------------------------------------


def _work(
    connection: Connection, open: Callable[[Callable[[str], None]], Any], slots: int, parent: int, folder: str
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started this ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(parent)
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    calls = _Calls(connection, slots)
    opened = open(calls.tell)
    try:
        opened.load()
        calls.say(Message(None, "loaded"))
        if slots > 1:
            threading.Thread(target=calls.say_alive, daemon=True).start()
        calls.serve(opened)
    except (EOFError, OSError):
        pass  # whoever started this has gone
    finally:
        opened.close()
        os._exit(0)  # also where a call does not end


def die_with_parent(parent: int) -> None:
    """Where there is Linux, SIGKILL arrives with the parent's end, whatever is being computed. Elsewhere the closed
    connection tells, between two calls."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had gone before
        os._exit(1)


def _sendable(error: BaseException) -> Exception:
    """The error as the other side can build it again, which not every class can; bugs with the way they came."""
    if isinstance(error, LLMTwinError):
        return error
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception:
        copied = None
    if not isinstance(copied, Exception):
        copied = RuntimeError(f"{type(error).__name__}: {error}")
    copied.add_note("".join(traceback.format_exception(error)))
    return copied


class _Calls:
    """Those being worked on here."""

    def __init__(self, connection: Connection, slots: int) -> None:
        self._connection, self._saying = connection, threading.Lock()
        self._stopped: dict[int, threading.Event] = {}
        self._threads = ThreadPoolExecutor(slots)
        self._slots = slots
        self._current = threading.local()

    def say(self, message: Message) -> None:
        with self._saying:
            self._connection.send(message)

    def say_alive(self) -> None:
        with suppress(OSError):
            while True:
                time.sleep(ALIVE_EVERY)
                self.say(Message(None, "alive"))

    def tell(self, kind: str) -> None:
        """`waiting` or `working`, of the call that this thread works on."""
        if (number := getattr(self._current, "number", None)) is not None:
            self.say(Message(number, kind))

    def serve(self, opened: Any) -> None:
        while True:
            match self._connection.recv():
                case ("call", number, work, streams):
                    self._stopped[number] = threading.Event()
                    self._threads.submit(self._call, opened, number, work, streams)
                case ("stop", number):
                    if stopped := self._stopped.get(number):
                        stopped.set()
                case ("close",):
                    return

    def _call(self, opened: Any, number: int, work: tuple[Callable, tuple, dict], streams: bool) -> None:
        self._current.number = number
        try:
            last = self._last_message(opened, number, work, streams)
        except BaseException as error:  # a panic of a Rust library is no Exception
            last = Message(number, "error", _sendable(error))
        finally:
            del self._stopped[number], self._current.number
        with suppress(OSError):  # whoever waited has gone
            try:
                self.say(last)
            except (pickle.PicklingError, TypeError, AttributeError) as error:  # a result that cannot be sent
                self.say(Message(number, "error", _sendable(error)))

    def _last_message(self, opened: Any, number: int, work: tuple[Callable, tuple, dict], streams: bool) -> Message:
        function, given, options = work
        if not streams:
            return Message(number, "end", [function(opened, *given, **options)])
        events: list[Any] = []
        with closing(function(opened, *given, stop=self._stopped[number].is_set, **options)) as results:
            for result in results:
                events.append(result)
                if self._slots > 1:  # others write at the same time, and this one is read while it is written
                    self.say(Message(number, "events", events))
                    events = []
        return Message(number, "end", events)
