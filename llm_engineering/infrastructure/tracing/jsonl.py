"""Traces in files beside the stores: one JSON line each, a new file every day and every 32 MiB."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from llm_engineering.infrastructure.tracing.background_writer import BackgroundWriter
from llm_engineering.infrastructure.tracing.record import Record

BYTES = 32 * 2**20
FILES = 16  # kept; the oldest go
BLOCK = 2**16


class JsonlTracer:
    """A process that dies leaves at most a torn last line, which readers skip. Files are the owner's alone (0600)."""

    def __init__(self, folder: Path, *, file_bytes: int = BYTES, files: int = FILES, queue_size: int = 1000) -> None:
        self._lines = TraceFiles(folder, file_bytes=file_bytes, files=files)
        self._writer = BackgroundWriter(self._lines.append, size=queue_size)

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def start(self, name: str, **facts: object) -> Record:
        return Record(name, facts, send=self._writer.put)

    def recent(self, limit: int) -> list[dict]:
        """Newest first."""
        self._writer.flush(1.0)
        return [trace for _, trace in zip(range(limit), read_traces(self._lines.folder), strict=False)]

    def close(self) -> None:
        self._writer.close(2.0)


class TraceFiles:
    """The writing side, for one thread. Other processes may append to the same files."""

    def __init__(self, folder: Path, *, file_bytes: int = BYTES, files: int = FILES) -> None:
        self.folder = Path(folder)
        self._file_bytes, self._files = file_bytes, files

    def append(self, records: list[dict]) -> None:
        data = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in records).encode()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._current()
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data  # the torn line of a process that died
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)

    def _current(self) -> Path:
        """Today's newest file that has room; the names sort by age."""
        day = datetime.now(UTC).date().isoformat()
        names = trace_files(self.folder)
        today = [path for path in names if path.name.startswith(f"traces-{day}-")]
        if today and today[-1].stat().st_size < self._file_bytes:
            return today[-1]
        for old in names[: max(0, len(names) - self._files + 1)]:
            old.unlink(missing_ok=True)
        number = int(today[-1].stem.rpartition("-")[2]) + 1 if today else 0
        return self.folder / f"traces-{day}-{number:04}.jsonl"


def trace_files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(Path(folder).glob("traces-????-??-??-????.jsonl"))


def read_traces(folder: Path) -> Iterator[dict]:
    """Newest first, streamed from the end; torn and foreign lines are skipped."""
    for path in reversed(trace_files(folder)):
        with suppress(FileNotFoundError):  # rotated away meanwhile
            yield from filter(None, map(_trace, _lines_backwards(path)))


def find_traces(folder: Path, id: str) -> list[dict]:
    """Those whose id begins so, newest first."""
    return [trace for trace in read_traces(folder) if trace["id"].startswith(id)]


def _trace(line: bytes) -> dict | None:
    try:
        trace = json.loads(line)
    except ValueError:
        return None
    return trace if isinstance(trace, dict) and isinstance(trace.get("id"), str) else None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position:
            start = max(0, position - BLOCK)
            file.seek(start)
            rest, position = file.read(position - start) + rest, start
            first, *lines = rest.split(b"\n")
            yield from reversed([line for line in lines if line])
            rest = first
        if rest:
            yield rest
