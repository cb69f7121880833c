"""A stream of server-sent events, read in a thread of its own so that whoever waits for it can stop waiting.

Not by the client's own stream: it reads on for ever while a server sends only comments, keeps a line without an end,
and takes a web page for an empty answer (tests/infrastructure/test_openai_model.py).
"""

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import monotonic
from typing import Any, Protocol

POLL = 0.05  # seconds between two looks at `stop` while the server is silent
LONGEST_LINE = 2**20  # bytes; no event of an answer comes near
_LINE = re.compile(rb"(data|event|id|retry)?:|(data|event|id|retry)?$")  # of a stream of events


class _End:
    """The reader thread has ended."""


class ByteStream(Protocol):
    def iter_bytes(self) -> Iterator[bytes]: ...


class StreamTimeout(Exception):
    """No event came in time."""


class StreamReader:
    """`open_stream` gives a response of the openai client that was not read yet."""

    def __init__(self, open_stream: Callable[[], AbstractContextManager[ByteStream]]) -> None:
        self._open = open_stream
        self._events: Queue[dict[str, Any] | Exception | _End] = Queue(maxsize=64)
        self._abandoned = Event()

    def events(self, timeout: float, stop: Callable[[], bool]) -> Generator[dict[str, Any]]:
        """Raises what reading raised, StreamTimeout after `timeout` seconds without an event; ends when `stop` says
        so."""
        Thread(target=self._read, name="openai-stream", daemon=True).start()
        until = monotonic() + timeout
        while not stop():
            try:
                event = self._events.get(timeout=POLL)
            except Empty:
                if monotonic() > until:
                    raise StreamTimeout from None
                continue
            if isinstance(event, _End):
                return
            if isinstance(event, Exception):
                raise event
            yield event
            until = monotonic() + timeout

    def abandon(self) -> None:
        """The thread ends with the next bytes it hears, at the latest when the connection's time-out is over."""
        self._abandoned.set()

    def _read(self) -> None:
        try:
            with self._open() as response:
                for event in parse_events(self._until_abandoned(response.iter_bytes())):
                    if not self._put(event):
                        return
                self._put(_End())
        except Exception as error:  # raised again where the events are read
            self._put(error)

    def _until_abandoned(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """A server may go on for ever without an event."""
        for block in blocks:
            if self._abandoned.is_set():
                return
            yield block

    def _put(self, event: dict[str, Any] | Exception | _End) -> bool:
        while not self._abandoned.is_set():
            with suppress(Full):
                self._events.put(event, timeout=POLL)
                return True
        return False


def parse_events(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON object of each event, until [DONE]; comments are skipped. Raises ValueError for anything else."""
    rest = b""
    for block in blocks:
        *lines, rest = re.split(rb"[\r\n]+", rest + block)
        for line in lines:
            data = _data(line)
            if data == b"[DONE]":
                return
            if data:
                yield _object(data)
        if len(rest) > LONGEST_LINE:
            raise ValueError("a line without an end")
    _data(rest)  # half a line is no event, but it may show that this is no stream at all


def _data(line: bytes) -> bytes:
    if not _LINE.match(line):
        raise ValueError("no line of a stream of events")
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def wait(seconds: float, stop: Callable[[], bool]) -> bool:
    """True when `stop` said so meanwhile. Not stamina's, which sleeps by itself and would not hear of it."""
    until, pause = monotonic() + seconds, Event()
    while (left := until - monotonic()) > 0:
        if stop():
            return True
        pause.wait(min(POLL, left))
    return stop()
