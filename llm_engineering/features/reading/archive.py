"""A zip archive or a folder from outside, read in memory with the distrust it deserves: nothing is unpacked."""

import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn, Protocol


class Limits(NamedTuple):
    files: int = 100_000
    file_bytes: int = 100_000_000  # of one file, unpacked
    all_bytes: int = 1_000_000_000  # of all that is read, unpacked
    ratio: int = 200  # unpacked to packed; text packs ten to one, a bomb a thousand to one
    ratio_from: int = 1_000_000  # bytes below which a ratio says nothing


LIMITS = Limits()


class ArchiveError(Exception):
    """Why this archive is not read."""


class Archive(Protocol):
    names: tuple[str, ...]  # with slashes, sorted

    def read(self, name: str) -> bytes:
        """Raises ArchiveError."""


def stored_size(path: Path) -> int:
    """In bytes, of the archive as it lies on the disk."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else path.stat().st_size


@contextmanager
def open_archive(path: Path, *, limits: Limits = LIMITS) -> Generator[Archive]:
    """Raises ArchiveError for what is damaged, encrypted, too large, or names a place outside itself."""
    if path.is_dir():
        yield _Folder(path, limits)
        return
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise ArchiveError(f"not a readable zip archive: {error}") from None
    with opened:
        yield _Zip(opened, limits)


class _Zip:
    def __init__(self, opened: zipfile.ZipFile, limits: Limits) -> None:
        self._opened, self._limits, self._left = opened, limits, limits.all_bytes
        members = opened.infolist()
        if len(members) > limits.files:
            raise ArchiveError(f"{len(members):,} files, more than {limits.files:,}")
        for member in members:
            _check(member, limits)
        self.names = tuple(sorted({member.filename for member in members if not member.is_dir()}))

    def read(self, name: str) -> bytes:
        """What the headers promise is not believed: reading stops at the limit."""
        limit = min(self._limits.file_bytes, self._left)
        try:
            with self._opened.open(name) as file:
                data = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:
            raise ArchiveError(f"{name} is damaged or encrypted: {error}") from None
        if len(data) > limit:
            raise ArchiveError(f"{name} unpacks to more than {limit:,} bytes")
        self._left -= len(data)
        return data


class _Folder:
    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits
        found = []
        for folder, folders, files in os.walk(root, onerror=_raise_unreadable):
            for name in folders + files:
                path = Path(folder, name)
                if path.is_symlink():
                    raise ArchiveError(f"{path.relative_to(root)} is a symbolic link")
            found += [Path(folder, name).relative_to(root).as_posix() for name in files]
            if len(found) > limits.files:
                raise ArchiveError(f"more than {limits.files:,} files")
        self.names = tuple(sorted(found))

    def read(self, name: str) -> bytes:
        try:
            with (self._root / name).open("rb") as file:
                data = file.read(self._limits.file_bytes + 1)
        except OSError as error:
            _raise_unreadable(error)
        if len(data) > self._limits.file_bytes:
            raise ArchiveError(f"{name} has more than {self._limits.file_bytes:,} bytes")
        return data


def _raise_unreadable(error: OSError) -> NoReturn:
    raise ArchiveError(f"{error.filename} cannot be read: {error.strerror}") from error


def _check(member: zipfile.ZipInfo, limits: Limits) -> None:
    name = member.filename
    if "\\" in name or "\x00" in name or re.match("[A-Za-z]:", name) or PurePosixPath(name).is_absolute():
        raise ArchiveError(f"{name!r} is no plain path")
    if ".." in PurePosixPath(name).parts:
        raise ArchiveError(f"{name!r} points out of the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ArchiveError(f"{name!r} is a symbolic link")
    if member.flag_bits & 0x1:
        raise ArchiveError(f"{name!r} is encrypted; unpack it, or download the export again")
    if member.file_size > limits.ratio_from and member.file_size > limits.ratio * max(member.compress_size, 1):
        raise ArchiveError(f"{name!r} would unpack to {member.file_size:,} bytes from {member.compress_size:,}")
