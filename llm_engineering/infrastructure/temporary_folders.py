"""Folders in the system's temporary place, that do not stay behind even when their process is killed."""

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["git", "browser", "view", "evaluation", "answers"]
LOCK = ".in-use"  # held, by flock, as long as the process that made the folder lives
RANDOM = "[a-z0-9_]" * 8  # what mkdtemp appends
UNLOCKED_SECONDS = 24 * 3600.0  # a folder without a lock is older than this before it is taken for a leftover


class TemporaryFolder:
    """An empty folder of this process, gone after `remove` (or the `with` block, which gives its path), when this
    object is no more, or when the process ends in order. After a kill, the next process that makes one removes it.

    With a name as `llm-twin-git-…`. Raises OSError.
    """

    def __init__(self, kind: Kind) -> None:
        place = tempfile.gettempdir()
        _remove_leftovers_once(place, os.getpid())
        self.path, lock = _made(kind, place)
        self._end = weakref.finalize(self, _end, self.path, lock, os.getpid())
        _own.add(self)

    def remove(self) -> None:
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.remove()


_own: "weakref.WeakSet[TemporaryFolder]" = weakref.WeakSet()


def remove_own() -> None:
    """Every folder of this process that is still there, for one that ends without order."""
    for folder in tuple(_own):
        folder.remove()


def remove_leftovers() -> None:
    """Folders of processes that were killed. Those of a living one are left alone, in whatever container it runs."""
    place = Path(tempfile.gettempdir())
    for kind in get_args(Kind):
        for folder in place.glob(f"llm-twin-{kind}-{RANDOM}"):
            with suppress(OSError):  # another user's, or another process is removing it
                _remove_if_left(folder)


@cache
def _remove_leftovers_once(place: str, pid: int) -> None:
    remove_leftovers()


def _made(kind: Kind, place: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"llm-twin-{kind}-", dir=place))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # another process took it for a leftover in the moment before it was locked


def _remove_if_left(folder: Path) -> None:
    found = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or found.st_uid != os.getuid():
        return
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # it is being made right now, or a version without locks made it
        if time.time() - found.st_mtime > UNLOCKED_SECONDS:
            _remove_tree(folder)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_tree(folder)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _end(folder: Path, lock: int, pid: int) -> None:
    if os.getpid() == pid:  # and not a fork of the process that made it
        _remove_tree(folder)
    os.close(lock)


def _remove_tree(folder: Path) -> None:
    """Whatever of it can be removed. Not deeper than Python recurses: nothing here is."""
    shutil.rmtree(folder, ignore_errors=True)
