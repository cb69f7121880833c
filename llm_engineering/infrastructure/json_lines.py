"""Files of one JSON object a line, that any number of threads and processes append to and remove from."""

import os
from collections.abc import Callable
from pathlib import Path

from llm_engineering.infrastructure.files import replacing


def append_lines(path: Path, data: bytes, *, lock: Path, durable: bool = False) -> None:
    """`data` are whole lines. They stand on lines of their own even after the torn line of a process that died, and
    a disk that is full takes all of them or none. The file is its owner's alone (0600). Raises OSError."""
    from filelock import FileLock

    with FileLock(lock):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
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


def remove_lines(path: Path, unwanted: Callable[[bytes], bool], *, lock: Path) -> None:
    """Rewrite the file without these lines, or not at all; it goes with its last line. What a removal that was
    killed has left beside it goes too. Raises OSError."""
    from filelock import FileLock

    with FileLock(lock):
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
