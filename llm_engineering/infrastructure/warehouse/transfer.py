"""The warehouse and its ledger as one file, to back up and to move. See docs/warehouse.md.

One JSON object per line: a header, the documents by id, the ledger by link, and last a manifest with the counts and
the SHA-256 of everything above it. Compressed when the name ends in .gz.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from llm_engineering.domain.documents import Author, Document
from llm_engineering.domain.errors import ConfigError, SourceError, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ledger import LedgerEntry
from llm_engineering.domain.ports import Ledger, Restored, Warehouse
from llm_engineering.infrastructure.files import reason_of, replacing
from llm_engineering.infrastructure.warehouse.rows import encode

HEADER = {"format": "llm-twin warehouse", "version": 1}
MOST_COUNTED = 10**9  # revisions, attempts, documents of a link
LONGEST_LINE = 512 * 2**20  # bytes; the longest body, 50 MB as base64, takes 70 MB
BATCH = 500  # rows written together; a stopped import goes on where it was when it is run again

_ID = re.compile("[0-9a-f]{0,64}")

Progress = Callable[[], None]
T = TypeVar("T")


class Exported(NamedTuple):
    documents: int
    entries: int
    bytes: int  # of the file
    sha256: str  # of all lines but the last, uncompressed


class Imported(NamedTuple):
    """`entries` counts the ledger's rows, as `documents` does: written as new, as newer, not at all."""

    documents: Restored
    entries: Restored


class Checked(NamedTuple):
    documents: int
    entries: int


def export_warehouse(
    warehouse: Warehouse, ledger: Ledger, path: Path, *, progress: Progress = lambda: None
) -> Exported:
    """Write everything to `path`, replacing it only when the new file is whole and on the disk.

    A document that is written meanwhile is in the file as it was or as it is. Raises StoreUnavailable when the
    file cannot be written; what was at `path` then is still there.
    """
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    with _export_file(path) as file:

        def write(line: dict[str, Any]) -> None:
            data = _json_line(line)
            digest.update(data)
            file.write(data)

        write(HEADER | {"warehouse": warehouse.ref.id})
        for kind, rows in (("document", warehouse.documents()), ("entry", ledger.entries())):
            for row in rows:
                write({kind: row.model_dump()})
                counts[kind] += 1
                progress()
        file.write(_json_line({"manifest": _manifest(counts, digest.hexdigest())}))
    return Exported(counts["document"], counts["entry"], path.stat().st_size, digest.hexdigest())


def check_export(path: Path, *, progress: Progress = lambda: None) -> Checked:
    """Read the whole file and every row of it. Raises ConfigError when it is no export, StoreCorrupt when it is not
    what was written, with the line."""
    counts: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for number, row in _rows(path, counts):
        kind = "document" if isinstance(row, Document) else "entry"
        if (kind, row.link) in seen:
            raise StoreCorrupt(f"{path}, line {number}: {row.link} was there before. Nothing was written")
        seen.add((kind, row.link))
        progress()
    return Checked(counts["document"], counts["entry"])


def import_warehouse(
    warehouse: Warehouse, ledger: Ledger, path: Path, *, progress: Progress = lambda: None
) -> Imported:
    """Add what the file holds, with its revisions and dates. Nothing is written unless the whole file is sound.

    What is stored already stays when it is as new or newer (by revision then date; in the ledger by last attempt),
    and is counted. Nothing is deleted. Importing twice is importing once. A warehouse that never held anything goes on
    as the one that was exported. Raises as `check_export`.
    """
    check_export(path)
    if warehouse_id := _exported_id(path):
        warehouse.adopt(warehouse_id)
    documents, entries = Counter(), Counter()
    for batch in _batches((row for _, row in _rows(path, Counter()) if isinstance(row, Document))):
        documents.update(warehouse.restore(batch)._asdict())
        for _ in batch:
            progress()
    for batch in _batches((row for _, row in _rows(path, Counter()) if isinstance(row, LedgerEntry))):
        _restore_entries(ledger, batch, entries)
        for _ in batch:
            progress()
    return Imported(_restored(documents), _restored(entries))


def _restore_entries(ledger: Ledger, batch: list[LedgerEntry], counts: Counter[str]) -> None:
    wanted = []
    for entry in batch:
        stored = ledger.entry(entry.link)
        if stored == entry:
            counts["unchanged"] += 1
        elif stored and stored.last_attempt >= entry.last_attempt:
            counts["newer"] += 1
        else:
            counts["updated" if stored else "inserted"] += 1
            wanted.append(entry)
    ledger.record(wanted)


def _restored(counts: Counter[str]) -> Restored:
    return Restored(*(counts[name] for name in Restored._fields))


def _manifest(counts: Counter[str], sha256: str) -> dict[str, Any]:
    return {"documents": counts["document"], "entries": counts["entry"], "sha256": sha256}


def _json_line(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, ensure_ascii=False, default=datetime.isoformat)
    return (text + "\n").encode("utf-8", "surrogatepass")  # half a character comes back as it was


def _rows(path: Path, counts: Counter[str]) -> Iterator[tuple[int, Document | LedgerEntry]]:
    """(line number, row) of each, then the manifest checked."""
    digest, manifest, number = hashlib.sha256(), None, 0
    for number, data in enumerate(_lines(path), start=1):
        line = _parsed(path, number, data)
        if number == 1:
            _require_header(path, line)
        elif manifest is not None:
            raise StoreCorrupt(f"{path}, line {number}: there is more after the manifest. Nothing was written")
        elif "manifest" in line:
            manifest = line["manifest"]
            continue
        else:
            yield number, _row(path, number, line, counts)
        digest.update(data)
    if manifest is None:
        raise StoreCorrupt(f"{path} ends after line {number}, without its manifest: it was cut off; export again")
    if manifest != _manifest(counts, digest.hexdigest()):
        raise StoreCorrupt(f"{path} is not what was exported: its checksum or its counts differ; take another copy")


def _row(path: Path, number: int, line: dict[str, Any], counts: Counter[str]) -> Document | LedgerEntry:
    nouns = {"document": Document, "entry": LedgerEntry}
    try:
        [(kind, fields)] = line.items()
        row = nouns[kind].model_validate(fields)
        _check_values(row, fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SourceError) as error:
        short = "; ".join(str(error).splitlines()[:3])
        raise StoreCorrupt(f"{path}, line {number}: no document and no ledger entry ({short})") from error
    counts[kind] += 1
    return row


def _check_values(row: Document | LedgerEntry, fields: dict[str, Any]) -> None:
    """What a noun may hold and no warehouse would have written. Raises ValueError, SourceError."""
    for name in ("revision", "attempts", "documents"):
        number = fields.get(name, 0)
        if type(number) is not int or not 0 <= number <= MOST_COUNTED:
            raise ValueError(f"{name}: a whole number up to {MOST_COUNTED:,}, not {_short(number)}")
    for name, moment in row:
        if isinstance(moment, datetime):
            _check_moment(name, moment)
    if not row.link.strip():
        raise ValueError("link: is empty")
    if isinstance(row, Document):
        if row.encoding not in ("text", "base64"):
            raise ValueError(f"encoding: text or base64, not {_short(row.encoding)}")
        encode(row)
    elif row.author_name and row.author_id != Author(name=row.author_name).id:
        raise ValueError(f"author_id: {_short(row.author_id)} is not the id of {_short(row.author_name)}")


def _check_moment(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{name}: {moment.isoformat()} has no time zone")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name}: {moment.isoformat()} is no time that can be reckoned with") from None


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _exported_id(path: Path) -> str:
    """Empty in an export of before it was written."""
    return json.loads(next(_lines(path))).get("warehouse", "")


def _parsed(path: Path, number: int, data: bytes) -> dict[str, Any]:
    try:
        line = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        if number == 1:
            raise ConfigError(f"{path} is no export of a warehouse") from error
        raise StoreCorrupt(f"{path}, line {number} is no JSON ({error}): take another copy, or export again") from error
    if not isinstance(line, dict):
        raise StoreCorrupt(f"{path}, line {number} is no JSON object: take another copy, or export again")
    return line


def _require_header(path: Path, line: dict[str, Any]) -> None:
    if line.get("format") != HEADER["format"]:
        raise ConfigError(f"{path} is no export of a warehouse")
    warehouse_id = line.get("warehouse", "")
    if {**line, "warehouse": ""} != {**HEADER, "warehouse": ""} or not _ID.fullmatch(str(warehouse_id)):
        raise ConfigError(f"{path} was written by another version of this program ({line}): update the older one")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if zipped else raw
            for number in count(1):
                if not (line := file.readline(LONGEST_LINE + 1)):
                    return
                if len(line) > LONGEST_LINE:
                    raise StoreCorrupt(f"{path}, line {number} has more than {LONGEST_LINE:,} bytes: no row has")
                yield line
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise StoreCorrupt(f"{path} is damaged or was cut off ({error}): take another copy, or export again") from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read ({reason_of(error)})") from error


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


@contextmanager
def _export_file(path: Path) -> Generator[IO[bytes] | gzip.GzipFile]:
    """Takes the place of `path` when it is whole and on the disk."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file, such as {path / 'warehouse.jsonl.gz'}")
    try:
        with replacing(path) as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=6) as file:
                    yield file
            else:
                yield raw
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be written ({reason_of(error)}); the old file, if any, is as it was"
        ) from error
