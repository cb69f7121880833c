"""Which weights a model folder holds: the hub's commit, or a hash of its files that is computed once and remembered."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from llm_engineering.domain.ids import content_hash
from llm_engineering.infrastructure.files import write_whole

SETTLED_NS = 2_000_000_000  # a file touched later than this before it was read may change without changing its times
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_READ = re.compile(r"\..*|.*\.md|onnx|openvino|checkpoint-\d+|runs|logs|eval")  # by sentence-transformers on torch


def model_revision(folder: Path, *, cache: Path | None = None) -> str:
    """The hub's commit where `folder` is a snapshot in its cache, else a hash of the names and contents of all files
    that may decide the vectors: weights, config, tokenizer, modules, prompts.

    `cache` is a file that remembers the hashes, so that gigabytes are read once; None: they are read each time.
    Raises OSError.
    """
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
        return folder.name
    hashes = FileHashes(cache)
    names = sorted(file.relative_to(folder).as_posix() for file in _deciding_files(folder))
    revision = content_hash(*(part for name in names for part in (name, hashes.sha256(folder / name))))
    hashes.save()
    return revision


def _deciding_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if _NOT_READ.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from _deciding_files(path)
        else:
            yield path


class FileState(NamedTuple):
    """Differs whenever the file was written or replaced: nobody can set back `changed_ns`, the inode's ctime."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


class RememberedHash(NamedTuple):
    state: FileState
    sha256: str


_REMEMBERED = TypeAdapter(dict[str, RememberedHash])


class FileHashes:
    """SHA-256 of files, remembered in `cache` by path and state.

    As git does with its index, a hash is remembered only when the file had settled before it was read: within one
    tick of the file system's clock it could be written again and keep its times. A cache that cannot be read or
    written costs time, and nothing else.
    """

    def __init__(self, cache: Path | None, *, settled_ns: int = SETTLED_NS) -> None:
        self._cache, self._settled_ns = cache, settled_ns
        self._known = _read(cache) if cache else {}
        self._learned = False

    def sha256(self, path: Path) -> str:
        """Raises OSError."""
        path = path.resolve()
        state, known = FileState.of(path), self._known.get(str(path))
        if known and known.state == state:
            return known.sha256
        began = time.time_ns()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if began - max(state.modified_ns, state.changed_ns) >= self._settled_ns and FileState.of(path) == state:
            self._known[str(path)] = RememberedHash(state, digest)
            self._learned = True
        return digest

    def save(self) -> None:
        """Only when there is something new; files that are gone are forgotten."""
        if self._cache and self._learned:
            present = {path: known for path, known in self._known.items() if Path(path).exists()}
            with suppress(OSError):
                write_whole(self._cache, _REMEMBERED.dump_json(present))


def _read(cache: Path) -> dict[str, RememberedHash]:
    try:
        return _REMEMBERED.validate_json(cache.read_bytes())
    except (OSError, ValidationError):
        return {}
