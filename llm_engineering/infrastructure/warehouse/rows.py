"""How a document becomes a row, and which revision a write gives it: the same for every warehouse."""

import json
import pickle
import secrets
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import IO, NamedTuple

from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import AuthorErased, LinkConflict, SourceError, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Change, PutResult, Restored
from llm_engineering.infrastructure.files import reason_of

SEAL = 9  # bytes at the end of a payload: a line feed, which JSON of one line never holds, and the CRC-32 of the rest
MEND = "crawl its link again with `poe run-etl --no-cache`, or import a backup (poe warehouse import)"
IN_MEMORY = 16 * 2**20  # bytes of one put that are held in memory; the rest waits in a temporary file


class Row(NamedTuple):
    """One document ready to be written. `payload` is its JSON without what the warehouse itself sets."""

    id: str
    link: str
    author_id: str
    author_name: str
    crawled_from: str
    source: str
    content_hash: str
    revision: int
    updated_at: str | None
    payload: bytes


class Stamp(NamedTuple):
    """What the warehouse sets on a document it writes. `updated_at` is `iso` of a moment."""

    revision: int
    updated_at: str


class Stored(NamedTuple):
    content_hash: str
    stamp: Stamp
    is_intact: Callable[[], bool]  # asked only when nothing else would be written


class Kept(Enum):
    """Why a row was not written."""

    SAME = "same"
    NEWER = "newer"  # what is stored is newer


def iso(moment: datetime) -> str:
    """UTC to the microsecond, always as wide, so that text compares as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def now() -> str:
    return iso(datetime.now(UTC))


def encode(document: Document) -> Row:
    """Every text round-trips exactly, NUL bytes and lone surrogates included. Raises SourceError(BAD_LINK) for a
    link, source or author that is no text, because those are looked up by."""
    fields = document.model_dump(exclude={"revision", "updated_at"})
    named = (document.link, document.author.name, document.crawled_from, document.source)
    try:
        "".join(named).encode()
    except UnicodeEncodeError:
        detail = "its link, crawled_from, source or author holds half a character (a lone surrogate)"
        raise SourceError(ascii(document.link), Reason.BAD_LINK, detail, retry=False) from None
    return Row(
        id=document.id,
        link=document.link,
        author_id=document.author.id,
        author_name=document.author.name,
        crawled_from=document.crawled_from,
        source=document.source,
        content_hash=document.content_hash,
        revision=document.revision,
        updated_at=iso(document.updated_at) if document.updated_at else None,
        payload=_sealed(
            json.dumps(fields, ensure_ascii=False, default=datetime.isoformat).encode("utf-8", "surrogatepass")
        ),
    )


def decode(document_id: str, payload: bytes, revision: int, updated_at: str, content: str, *, where: str) -> Document:
    """`content` is the hash it was stored with. Raises StoreCorrupt, naming `where` the payload was read, when that is
    not what was written."""
    try:
        fields = json.loads(_unsealed(payload).decode("utf-8", "surrogatepass"))
        document = Document.model_validate({**fields, "revision": revision, "updated_at": updated_at})
        if (document.id, document.content_hash) != (document_id, content):
            raise ValueError("it is not what was stored under its link and its content hash")
    except (ValueError, TypeError, RecursionError) as error:  # a ValidationError is a ValueError
        short = str(error).partition("\n")[0]
        raise StoreCorrupt(f"{where} holds a document that cannot be read ({short}); {MEND}") from error
    return document


def _sealed(payload: bytes) -> bytes:
    return payload + b"\n%08x" % zlib.crc32(payload)


def _unsealed(payload: bytes) -> bytes:
    """One that was written before there were seals has none. Raises ValueError."""
    if not isinstance(payload, bytes):
        raise ValueError("it was changed by another program")
    if payload[-SEAL : -SEAL + 1] != b"\n":
        return payload
    content, seal = payload[:-SEAL], payload[-SEAL + 1 :]
    if seal != b"%08x" % zlib.crc32(content):
        raise ValueError("bytes of it were changed since it was written")
    return content


def is_intact(document_id: str, payload: bytes, revision: int, updated_at: str, content: str) -> bool:
    """Whether `decode` would give it."""
    try:
        decode(document_id, payload, revision, updated_at, content, where="")
    except StoreCorrupt:
        return False
    return True


def change_of(document_id: str, token: str, read: Callable[[], Document | None]) -> Change:
    """One damaged document must not keep the others from whoever follows the change feed."""
    try:
        return Change(document_id, read(), token)
    except StoreCorrupt as error:
        return Change(document_id, None, token, error)


@contextmanager
def spooled(documents: Iterable[Document]) -> Generator["Spool"]:
    """All rows of one put, held until the last is known, so that no lock waits for a slow source and a transaction
    can be tried again. Raises LinkConflict when two of them claim one link with different content."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        yield Spool(file, documents)


class Spool:
    """Rows that can be read any number of times."""

    def __init__(self, file: IO[bytes], documents: Iterable[Document]) -> None:
        self._file = file
        self._hashes: dict[str, str] = {}
        self.author_ids: set[str] = set()
        self.repeated = 0  # documents that say the same as an earlier one
        for document in documents:
            self._add(encode(document))

    def _add(self, row: Row) -> None:
        earlier = self._hashes.setdefault(row.id, "")
        if not earlier:
            self._hashes[row.id] = row.content_hash
            self.author_ids.add(row.author_id)
            self._write(row)
        elif earlier == row.content_hash:
            self.repeated += 1
        else:
            raise LinkConflict(
                f"{row.link}: two documents of one write claim this link with different content; give each its own "
                f"link (the second came from {row.crawled_from}). Nothing was written"
            )

    def _write(self, row: Row) -> None:
        try:
            pickle.dump(row, self._file)
        except OSError as error:
            raise StoreUnavailable(
                f"no room to prepare the write in {tempfile.gettempdir()} ({reason_of(error)}): free some space and "
                "run again. Nothing was written"
            ) from error

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[Row]:
        self._file.seek(0)
        for _ in range(len(self)):
            yield pickle.load(self._file)


Decide = Callable[[Row, Stored | None, str], Stamp | Kept]  # of a row, what is stored of it, and this moment
Upsert = Callable[[Spool, Decide], Counter]  # all rows or none; counts "inserted", "updated" and each `Kept`


def put(documents: Iterable[Document], upsert: Upsert) -> PutResult:
    """A new revision only where the content changed."""
    with spooled(documents) as spool:
        done = upsert(spool, _next_revision)
    return PutResult(done["inserted"], done["updated"], done[Kept.SAME] + spool.repeated)


def restore(documents: Iterable[Document], upsert: Upsert) -> Restored:
    """The documents' own revisions, unless what is stored is as new or newer."""
    with spooled(documents) as spool:
        done = upsert(spool, _own_revision)
    return Restored(done["inserted"], done["updated"], done[Kept.SAME] + spool.repeated, done[Kept.NEWER])


def _next_revision(row: Row, stored: Stored | None, moment: str) -> Stamp | Kept:
    if stored is None:
        return Stamp(1, moment)
    if stored.content_hash == row.content_hash and stored.is_intact():
        return Kept.SAME
    return Stamp(stored.stamp.revision + 1, moment)


def _own_revision(row: Row, stored: Stored | None, moment: str) -> Stamp | Kept:
    mine = Stamp(row.revision, row.updated_at or moment)
    if stored is None or mine > stored.stamp:
        return mine
    if stored.content_hash == row.content_hash and not stored.is_intact():
        return stored.stamp
    return Kept.SAME if stored.content_hash == row.content_hash else Kept.NEWER


def feed_id() -> str:
    """Names one change feed, so that a token of another warehouse is not mistaken for one of this. It is the
    warehouse's own id, too, unless it has adopted the id of the one that it is a copy of."""
    return content_hash(secrets.token_hex(16))[:12]


def erasure_key(feed: str, author_id: str) -> str:
    """What is left of an erased author: it tells nobody who it was, but whoever has the id can look."""
    return content_hash("erased", feed, author_id)


def author_erased(place: str) -> AuthorErased:
    return AuthorErased(
        f"{place}: the author was erased (poe forget) while this run read their links, so nothing more of theirs is "
        "stored. Take their lines out of the config; and run `poe forget` once more, for what this run wrote about "
        "itself"
    )
