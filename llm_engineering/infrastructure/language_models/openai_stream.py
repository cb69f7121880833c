"""A stream of server-sent events, read in a thread of its own so that whoever waits for it can stop waiting."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import monotonic
from typing import Any

POLL = 0.05  # seconds between two looks at `stop` while the server is silent
LONGEST_LINE = 2**20  # bytes; no piece of an answer comes near
_LINE = re.compile(rb"(data|event|id|retry)?:|(data|event|id|retry)?$")  # of a stream of events
_CUT = object()  # the reader thread has ended


class Silence(Exception):
    """No piece came in time."""


class Reading:
    """`open_stream` gives a response of the openai client that was not read yet."""

    def __init__(self, open_stream: Callable[[], AbstractContextManager[Any]]) -> None:
        self._open = open_stream
        self._pieces: Queue[Any] = Queue(maxsize=64)
        self._left = Event()

    def events(self, timeout: float, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Raises what reading raised, Silence after `timeout` seconds without a piece; ends when `stop` says so."""
        Thread(target=self._read, name="openai-stream", daemon=True).start()
        until = monotonic() + timeout
        while not stop():
            try:
                piece = self._pieces.get(timeout=POLL)
            except Empty:
                if monotonic() > until:
                    raise Silence from None
                continue
            if piece is _CUT:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            until = monotonic() + timeout

    def abandon(self) -> None:
        """The thread ends with the next bytes it hears, at the latest when the connection's time-out is over."""
        self._left.set()

    def _read(self) -> None:
        try:
            with self._open() as response:
                for event in events(self._heard(response.iter_bytes())):
                    if not self._give(event):
                        return
                self._give(_CUT)
        except Exception as error:  # raised again where the pieces are read
            self._give(error)

    def _heard(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Until whoever waited has left: a server may go on for ever without a piece."""
        for block in blocks:
            if self._left.is_set():
                return
            yield block

    def _give(self, piece: Any) -> bool:
        while not self._left.is_set():
            with suppress(Full):
                self._pieces.put(piece, timeout=POLL)
                return True
        return False


def events(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
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
        read = json.loads(data)
    except RecursionError:
        read = None
    if not isinstance(read, dict):
        raise ValueError("no JSON object")
    return read


def wait(seconds: float, stop: Callable[[], bool]) -> bool:
    """True when `stop` said so meanwhile."""
    until, pause = monotonic() + seconds, Event()
    while (left := until - monotonic()) > 0:
        if stop():
            return True
        pause.wait(min(POLL, left))
    return stop()
