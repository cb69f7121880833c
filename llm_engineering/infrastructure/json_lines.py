"""Files of one JSON object a line, that any number of threads and processes append to and remove from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.infrastructure.files import PRIVATE_FILE, open_private, replacing

if TYPE_CHECKING:
    from filelock import FileLock


def lock_file(path: Path) -> "FileLock":
    """For one thread of one process at a time. Made before it is needed, because its library cannot be imported any
    more when the interpreter is ending, and traces are still written then."""
    from filelock import FileLock

    return FileLock(path, mode=PRIVATE_FILE)


def append_lines(path: Path, data: bytes, *, lock: "FileLock", durable: bool = False) -> None:
    """`data` are whole lines. They stand on lines of their own even after the torn line of a process that died, and
    a disk that is full takes all of them or none. The file is its owner's alone (0600). Raises OSError."""
    with lock:
        handle = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            try:
                while data:
                    data = data[os.write(handle, data) :]
                if durable:
                    os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def remove_lines(path: Path, unwanted: Callable[[bytes], bool], *, lock: "FileLock") -> None:
    """Rewrite the file without these lines, or not at all; it goes with its last line. What a removal that was
    killed has left beside it goes too. Raises OSError."""
    with lock:
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink()
        if not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not unwanted(line)]
        if not kept:
            path.unlink()
        elif len(kept) < len(lines):
            with replacing(path) as file:
                file.writelines(kept)
