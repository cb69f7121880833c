"""Files that are whole or not there, also after a power cut, and that nobody but their owner reads."""

import errno
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE_FILE) -> Generator[IO[bytes]]:
    """Write beside `path`; it takes the place of `path` when the block ends well, and is gone otherwise.

    Its folder is made when missing. Readers see the old content or the new. What is no file (/dev/stdout, a pipe) is
    written to as it is. Raises OSError.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, content: str | bytes, *, mode: int = PRIVATE_FILE) -> None:
    """As `replacing`, of all at once; text as UTF-8. Raises OSError."""
    with replacing(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def open_private(path: str | Path, flags: int) -> int:
    """As `os.open`, also an opener for `open`: the file is its owner's alone, whatever the umask."""
    handle = os.open(path, flags, PRIVATE_FILE)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        with suppress(PermissionError):  # somebody else's
            os.fchmod(handle, PRIVATE_FILE)
    return handle


def sync_folder(folder: Path) -> None:
    """The names in `folder` (not what is in its files) are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """With every folder above it. What is made is its owner's alone (0700), whatever the umask; what is there stays as
    it is. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        with suppress(FileNotFoundError, PermissionError):  # another process has removed it again, or made it
            one.chmod(PRIVATE_FOLDER)


def make_private(path: Path) -> int:
    """As `tightened`, of everything below it, too: how many were changed."""
    return sum(tightened(one) for one in _below(path))


def _below(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            yield from (Path(folder, name) for name in (*folders, *files))


def tightened(path: Path) -> bool:
    """Take from others what they may do with it; says whether they could do anything. A link is left alone; so is what
    is not there, not ours, or cannot be changed."""
    with suppress(OSError):
        status = path.lstat()
        if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
            return True
    return False


def reason_of(error: OSError) -> str:
    """Why, in a few words, for a message."""
    if error.errno in FULL:
        return f"the disk is full: {error.strerror}"
    return error.strerror or type(error).__name__
