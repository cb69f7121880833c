"""The versions of an embedded index as folders: which one is published, who is writing, copying, what is damaged.

ROOT/.lock      held by the one writer, its process id inside
ROOT/CURRENT    the name of the published version, replaced atomically
ROOT/000007/    a version: manifest.json and shard/; one above CURRENT is not published yet
"""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from llm_engineering.domain.chunks import IndexSpec
from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.ports import IndexInfo
from llm_engineering.infrastructure.files import (
    FULL,
    PRIVATE_FILE,
    make_folder,
    open_private,
    reason_of,
    sync_folder,
    write_whole,
)
from llm_engineering.infrastructure.vectors.points import REBUILD


class Manifest(Noun):
    """Says that a version is complete up to `token`; written only when that is durable."""

    format: int = 1
    spec: IndexSpec
    token: str | None = None
    chunks: int = 0
    base: str | None = None  # the version it was copied from; None: it was begun empty
    warehouse: WarehouseRef | None = None  # it was filled from; None: of an index of before this was recorded

    def info(self, version: str) -> IndexInfo:
        return IndexInfo(
            spec=self.spec, token=self.token, chunks=self.chunks, version=version, warehouse=self.warehouse
        )


def engine_folder(root: Path, version: str) -> Path:
    return root / version / "shard"


def current(root: Path) -> str | None:
    """The published version's name; None when nothing was ever published. Raises StoreCorrupt."""
    try:
        name = (root / "CURRENT").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"{root / 'CURRENT'} cannot be read: {reason_of(error)}") from error
    if not name.isdigit() or not (root / name).is_dir():
        if current_moved(root, name):
            return current(root)
        raise StoreCorrupt(f"{root / 'CURRENT'} names {name!r}, which is not there; {REBUILD}")
    return name


def current_moved(root: Path, name: str) -> bool:
    """Whether another version has been published since, so that what is wrong with `name` does not matter."""
    try:
        return (root / "CURRENT").read_text(encoding="ascii", errors="replace").strip() != name
    except OSError:
        return False


def versions(root: Path) -> list[str]:
    return sorted((path.name for path in root.glob("[0-9]*") if path.name.isdigit()), key=int)


def next_version(root: Path) -> str:
    return f"{max([int(name) for name in versions(root)], default=0) + 1:06d}"


def read_manifest(version: Path) -> Manifest:
    """Raises StoreCorrupt."""
    path = version / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StoreCorrupt(f"{path} is missing; {REBUILD}") from None
    except ValidationError as error:
        raise StoreCorrupt(f"{path} is damaged ({error.errors()[0]['msg']}); {REBUILD}") from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {reason_of(error)}") from error


def write_manifest(version: Path, manifest: Manifest) -> None:
    with disk_error(version):
        write_whole(version / "manifest.json", manifest.model_dump_json(indent=1))


def publish(root: Path, version: str, manifest: Manifest) -> IndexInfo:
    """Make it what readers open next, once all of it is on the disk."""
    write_manifest(root / version, manifest)
    with disk_error(root):
        for path in (*(root / version).rglob("*"), root / version, root):
            sync_folder(path)
        write_whole(root / "CURRENT", version)
    return manifest.info(version)


def copy_tree(source: Path, target: Path) -> None:
    """A real copy of what may be written afterwards; holes stay holes (an empty shard is 200 MB of them)."""
    with disk_error(target.parent):
        make_folder(target)
        for path in sorted(source.rglob("*")):
            place = target / path.relative_to(source)
            if path.is_dir():
                make_folder(place)
            else:
                _copy_sparse(path, place)


def _copy_sparse(source: Path, target: Path, block: int = 1 << 20) -> None:
    with source.open("rb") as read, open(target, "xb", opener=open_private) as write:
        end = read.seek(0, os.SEEK_END)
        write.truncate(end)
        at = 0
        while at < end:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            stop = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                data = os.pread(read.fileno(), min(block, stop - at), at)
                at += os.pwrite(write.fileno(), data, at)


def stored_bytes(folder: Path) -> int:
    """What a folder takes on the disk, holes not counted."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def check_space(root: Path, needed: int, spare: int) -> None:
    """Raises StoreUnavailable; all that was written before stays."""
    free = shutil.disk_usage(root).free
    if free < needed + spare:
        raise StoreUnavailable(
            f"the disk of {root} is full: {free / 1e6:.0f} MB are free, {(needed + spare) / 1e6:.0f} MB are needed; "
            "free some space and run again. What was published before is untouched"
        )


def remove(version: Path) -> None:
    """The manifest first: a folder half removed must not look like a version."""
    (version / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(version)


@contextmanager
def disk_error(folder: Path) -> Generator[None]:
    """A full or read-only disk becomes StoreUnavailable; what is published stays as it was."""
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno in FULL else "mend that"
        raise StoreUnavailable(
            f"the vector store in {folder} cannot be written: {reason_of(error)}; {advice} and run again. "
            "What was published before is untouched"
        ) from error


@contextmanager
def lock(root: Path) -> Generator[None]:
    """Raises StoreLocked while another writer, of this or another process, holds it. A dead process holds nothing."""
    path = root / ".lock"
    holder = FileLock(path, timeout=0, mode=PRIVATE_FILE)
    with disk_error(root):
        make_folder(root)
        try:
            holder.acquire()
        except Timeout:
            owner = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise StoreLocked(
                f"{root} is being written by process {owner}; wait for it to end, or stop it, and run again"
            ) from None
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    try:
        yield
    finally:
        holder.release()
