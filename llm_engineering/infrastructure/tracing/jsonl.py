"""Traces in files beside the stores: one JSON line each, a new file every day and every 32 MiB."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject, word_runs
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.files import make_folder, reason_of
from llm_engineering.infrastructure.json_lines import append_lines, lock_file, remove_lines
from llm_engineering.infrastructure.tracing.background_writer import BackgroundWriter
from llm_engineering.infrastructure.tracing.record import Record, TraceRecord

BYTES = 32 * 2**20
FILES = 16  # kept; the oldest go
BLOCK = 2**16


class JsonlTracer:
    """A process that dies leaves at most a torn last line, which readers skip. Files are the owner's alone (0600)."""

    def __init__(self, folder: Path, *, file_bytes: int = BYTES, files: int = FILES, queue_size: int = 1000) -> None:
        self._files = TraceFiles(folder, file_bytes=file_bytes, files=files)
        self._writer = BackgroundWriter(self._files.append, size=queue_size)

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def start(self, name: str, **facts: object) -> Record:
        return Record(name, facts, send=self._writer.put)

    def recent(self, limit: int) -> list[TraceRecord]:
        """Newest first."""
        self._writer.flush(1.0)
        return list(islice(read_traces(self._files.folder), limit))

    def ids_about(self, subject: DataSubject) -> frozenset[str]:
        return self._files.ids_about(subject)

    def holds(self, subject: DataSubject) -> int:
        return len(self.ids_about(subject))

    def erase(self, subject: DataSubject) -> Erased:
        self._writer.flush(1.0)
        return self._files.erase(subject)

    def close(self) -> None:
        self._writer.close(2.0)


class TraceFiles:
    """Any number of processes may append to the same files."""

    def __init__(self, folder: Path, *, file_bytes: int = BYTES, files: int = FILES) -> None:
        self.folder = Path(folder)
        self._file_bytes, self._files = file_bytes, files
        self._lock = lock_file(self.folder / ".lock")

    def append(self, records: list[TraceRecord]) -> None:
        data = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in records).encode()
        make_folder(self.folder)
        append_lines(self._current(), data, lock=self._lock)

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

    def ids_about(self, subject: DataSubject) -> frozenset[str]:
        return ids_about(subject, lambda: map(trace_text, read_traces(self.folder)))

    def erase(self, subject: DataSubject) -> Erased:
        """Torn lines go too: nobody can read whose they are. Raises StoreUnavailable."""
        ids = self.ids_about(subject)
        try:
            for path in trace_files(self.folder):
                remove_lines(path, lambda line: not (trace := _trace(line)) or trace["id"] in ids, lock=self._lock)
            for left in self.folder.glob(".traces-*.part"):  # of a file that is gone since
                left.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"the traces in {self.folder} cannot be rewritten ({reason_of(error)}): free the disk or mend its "
                "rights"
            ) from error
        return Erased(len(ids))


class TraceText(NamedTuple):
    """A trace, or a part of it, as it is searched. `text` is JSON; `answer` is empty in a part without it."""

    id: str  # of the trace
    text: str
    answer: str = ""


def trace_text(trace: TraceRecord) -> TraceText:
    output = trace.get("output")
    answered = isinstance(output, dict) and output.get("outcome") == "answered"
    return TraceText(
        trace["id"], json.dumps(trace, ensure_ascii=False), str(output.get("answer", "")) if answered else ""
    )


def ids_about(subject: DataSubject, read: Callable[[], Iterable[TraceText]]) -> frozenset[str]:
    """Of the traces that hold something of the person, and of those that quote an answer of these, as the history of
    a conversation does. `read` gives all traces, each time it is called, parts before the answer they led to."""
    found: set[str] = set()
    known: set[str] = set()
    answers: set[tuple[str, ...]] = set()
    for one in read():
        if one.id in found or subject.is_in(one.text):
            found.add(one.id)
            answers.update(word_runs(one.answer))
        elif one.id in subject.trace_ids:  # its own answer may be about somebody else
            known.add(one.id)
    if answers:
        found.update(one.id for one in read() if not answers.isdisjoint(word_runs(one.text)))
    return frozenset(found | known)


def trace_files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(Path(folder).glob("traces-????-??-??-????.jsonl"))


def read_traces(folder: Path) -> Iterator[TraceRecord]:
    """Newest first, streamed from the end; torn and foreign lines are skipped."""
    for path in reversed(trace_files(folder)):
        with suppress(FileNotFoundError):  # rotated away meanwhile
            yield from filter(None, map(_trace, _lines_backwards(path)))


def find_traces(folder: Path, id: str) -> list[TraceRecord]:
    """Those whose id begins so, newest first."""
    return [trace for trace in read_traces(folder) if trace["id"].startswith(id)]


def _trace(line: bytes) -> TraceRecord | None:
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
