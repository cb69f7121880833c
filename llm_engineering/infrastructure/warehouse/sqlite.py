"""The embedded warehouse and ledger: one SQLite file, nothing to install."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from llm_engineering.domain.documents import Document, WarehouseRef
from llm_engineering.domain.errors import TokenExpired
from llm_engineering.domain.ledger import DocumentFailure, LedgerEntry, Outcome
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Change, Erased, PutResult, Restored
from llm_engineering.infrastructure.warehouse.rows import (
    Decide,
    Kept,
    Spool,
    Stamp,
    Stored,
    change_of,
    decode,
    is_intact,
    now,
    put,
    restore,
)
from llm_engineering.infrastructure.warehouse.sqlite_file import SqliteFile

READ = "payload, revision, updated_at, content_hash"  # what `decode` wants
PAGE = 500  # keys per query; bodies are read one at a time, because one alone may be 10 MB

UPSERT = """
    INSERT INTO documents(
        id, seq, link, author_id, author_name, crawled_from, source, content_hash, revision, updated_at, payload)
    VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT(id) DO UPDATE SET seq=excluded.seq, link=excluded.link, author_id=excluded.author_id,
        author_name=excluded.author_name, crawled_from=excluded.crawled_from, source=excluded.source,
        content_hash=excluded.content_hash, revision=excluded.revision, updated_at=excluded.updated_at,
        payload=excluded.payload"""

TOMBSTONE = """
    UPDATE documents SET seq=?, link=NULL, author_id=NULL, author_name=NULL, crawled_from=NULL, source=NULL,
        content_hash=NULL, revision=NULL, updated_at=NULL, payload=NULL
    WHERE id=? AND link IS NOT NULL"""


def open_sqlite(path: Path, *, timeout: float = 30.0) -> tuple["SqliteWarehouse", "SqliteLedger"]:
    """Both in the file at `path`, made when it is not there. A write waits `timeout` seconds for another writer.

    Raises StoreUnavailable (no such folder, full disk, a newer version's file), StoreLocked or StoreCorrupt.
    """
    file = SqliteFile(path, timeout=timeout)
    return SqliteWarehouse(file), SqliteLedger(file)


class SqliteWarehouse:
    """See `Warehouse`. Safe to share between threads, and between processes on a local disk.

    Two documents of one `put` with the same link and different content raise LinkConflict: taking either would lose
    the other silently.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @property
    def ref(self) -> WarehouseRef:
        return WarehouseRef(id=self._file.identity, place=str(self._file.path.absolute()))

    def adopt(self, warehouse_id: str) -> None:
        self._file.adopt(warehouse_id)

    def put(self, documents: Iterable[Document]) -> PutResult:
        return put(documents, self._upsert)

    def erasures(self) -> int:
        with self._file.reading() as connection:
            return self._file.erasures(connection, None)

    def restore(self, documents: Iterable[Document]) -> Restored:
        """As `put`, but revisions and dates come from the documents, and what is stored stays when it is newer."""
        return restore(documents, self._upsert)

    def _upsert(self, spool: Spool, decide: Decide) -> Counter:
        done: Counter = Counter()
        if not len(spool):
            return done
        with self._file.writing() as connection:
            self._file.check(spool.author_ids, connection)
            moment, seq = now(), _last_seq(connection)
            for row in spool:
                stored = _stored(connection, row.id)
                verdict = decide(row, stored, moment)
                if isinstance(verdict, Kept):
                    done[verdict] += 1
                    continue
                seq += 1
                connection.execute(UPSERT, (row.id, seq, *row[1:7], *verdict, row.payload))
                done["updated" if stored else "inserted"] += 1
            _set_last_seq(connection, seq)
        return done

    def get(self, document_id: str) -> Document | None:
        with self._file.reading() as connection:
            query = f"SELECT {READ} FROM documents WHERE id=? AND link IS NOT NULL"
            found = connection.execute(query, (document_id,)).fetchone()
        return self._decode(document_id, *found) if found else None

    def documents(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[Document]:
        for document_id in self.ids(author_id=author_id, crawled_from=crawled_from):
            if document := self.get(document_id):  # it may have been deleted since its id was read
                yield document

    def ids(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[str]:
        given = {"author_id": author_id, "crawled_from": crawled_from}
        where = {column: value for column, value in given.items() if value is not None}
        conditions = "".join(f" AND {column}=?" for column in where)
        query = f"SELECT id FROM documents WHERE link IS NOT NULL{conditions} AND id>? ORDER BY id LIMIT {PAGE}"
        last = ""
        while page := self._page(query, *where.values(), last):
            yield from (document_id for (document_id,) in page)
            [last] = page[-1]

    def count(self, *, author_id: str | None = None) -> int:
        if author_id is None:
            return self._page("SELECT count(link) FROM documents")[0][0]
        return self._page("SELECT count(*) FROM documents WHERE author_id=?", author_id)[0][0]

    def authors(self) -> dict[str, int]:
        """Every author's name and how many documents there are, by name."""
        query = "SELECT min(author_name), count(*) FROM documents WHERE link IS NOT NULL GROUP BY author_id ORDER BY 1"
        return dict(self._page(query))

    def delete(self, document_ids: Iterable[str]) -> int:
        wanted = list(document_ids)
        if not wanted:
            return 0
        with self._file.writing() as connection:
            return _leave_tombstones(connection, wanted)

    def holds(self, subject: DataSubject) -> int:
        return self.count(author_id=subject.author_id)

    def erase(self, subject: DataSubject) -> Erased:
        """Raises StoreLocked as `SqliteFile.wipe`; the documents are deleted then, and repeating wipes them out."""
        with self._file.writing() as connection:
            rows = connection.execute("SELECT id FROM documents WHERE author_id=?", (subject.author_id,)).fetchall()
            erased = _leave_tombstones(connection, [document_id for (document_id,) in rows])
            self._file.note_erasure(connection, subject.author_id)
        self._file.wipe()
        return Erased(erased)

    def changes(self, since: str | None) -> Iterator[Change]:
        """Ends at the state it found when it began. A document that changes meanwhile comes with the next call."""
        done = self._position(since)
        [(end,)] = self._page("SELECT seq FROM about")
        if done > end:
            raise TokenExpired(f"{self._file.path} is older than the token {since!r}: read everything again")
        query = f"SELECT seq, id FROM documents WHERE seq>? AND seq<=? ORDER BY seq LIMIT {PAGE}"
        while page := self._page(query, done, end):
            for seq, document_id in page:
                found = self._page(f"SELECT seq, {READ} FROM documents WHERE id=?", document_id)
                if found and found[0][0] == seq:
                    read = partial(self._live, document_id, *found[0][1:])
                    yield change_of(document_id, f"{self._file.feed}:{seq}", read)
            done = page[-1][0]

    def _position(self, since: str | None) -> int:
        if since is None:
            return 0
        feed, _, seq = since.partition(":")
        if feed != self._file.feed or not (seq.isascii() and seq.isdigit()):
            raise TokenExpired(f"the token {since!r} is not of {self._file.path}: read everything again")
        return int(seq)

    def _page(self, query: str, *values) -> list[tuple]:
        """A short read, so that a slow consumer holds no lock and no old state."""
        with self._file.reading() as connection:
            return connection.execute(query, values).fetchall()

    def _decode(self, document_id: str, payload: bytes, *stamp: Any) -> Document:
        return decode(document_id, payload, *stamp, where=f"{self._file.path}, document {document_id}")

    def _live(self, document_id: str, payload: bytes | None, *stamp: Any) -> Document | None:
        """None for a tombstone."""
        return None if payload is None else self._decode(document_id, payload, *stamp)

    def close(self) -> None:
        self._file.close()


def _last_seq(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT seq FROM about").fetchone()[0]


def _set_last_seq(connection: sqlite3.Connection, seq: int) -> None:
    connection.execute("UPDATE about SET seq=? WHERE seq<>?", (seq, seq))


def _stored(connection: sqlite3.Connection, document_id: str) -> Stored | None:
    query = "SELECT content_hash, revision, updated_at FROM documents WHERE id=? AND link IS NOT NULL"
    found = connection.execute(query, (document_id,)).fetchone()
    return Stored(found[0], Stamp(*found[1:]), partial(_is_intact, connection, document_id)) if found else None


def _is_intact(connection: sqlite3.Connection, document_id: str) -> bool:
    return is_intact(
        document_id, *connection.execute(f"SELECT {READ} FROM documents WHERE id=?", (document_id,)).fetchone()
    )


def _leave_tombstones(connection: sqlite3.Connection, document_ids: Iterable[str]) -> int:
    seq = first = _last_seq(connection)
    for document_id in document_ids:
        seq += connection.execute(TOMBSTONE, (seq + 1, document_id)).rowcount
    _set_last_seq(connection, seq)
    return seq - first


class SqliteLedger:
    """See `Ledger`. Lives in the warehouse's file, and is closed with it."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        rows = [(e.link, e.author_id, e.outcome, e.model_dump_json()) for e in entries]
        with self._file.writing() as connection:
            self._file.check((author_id for _, author_id, *_ in rows), connection)
            connection.executemany("INSERT OR REPLACE INTO ledger VALUES(?, ?, ?, ?)", rows)

    def entry(self, link: str) -> LedgerEntry | None:
        with self._file.reading() as connection:
            found = connection.execute("SELECT entry FROM ledger WHERE link=?", (link,)).fetchone()
        return LedgerEntry.model_validate_json(found[0]) if found else None

    def entries(
        self, *, author_id: str | None = None, outcome: Outcome | tuple[Outcome, ...] | None = None
    ) -> Iterator[LedgerEntry]:
        conditions, values = "", [] if author_id is None else [author_id]
        if author_id is not None:
            conditions = " AND author_id=?"
        if outcome is not None:
            outcomes = (outcome,) if isinstance(outcome, Outcome) else outcome
            conditions += f" AND outcome IN ({','.join('?' * len(outcomes))})"
            values += map(str, outcomes)
        query = f"SELECT link, entry FROM ledger WHERE link>?{conditions} ORDER BY link LIMIT {PAGE}"
        last: str | None = ""
        while last is not None:
            with self._file.reading() as connection:
                page = connection.execute(query, (last, *values)).fetchall()
            yield from (LedgerEntry.model_validate_json(entry) for _, entry in page)
            last = page[-1][0] if page else None

    def begin(self, author_id: str, fingerprint: str) -> datetime:
        """An author has one unfinished run: beginning one with another fingerprint forgets it."""
        with self._file.writing() as connection:
            self._file.watch(connection, author_id)
            query = "SELECT began_at FROM runs WHERE author_id=? AND fingerprint=?"
            found = connection.execute(query, (author_id, fingerprint)).fetchone()
            if found:
                return datetime.fromisoformat(found[0])
            moment = datetime.now(UTC)
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES(?, ?, ?)", (author_id, fingerprint, moment.isoformat())
            )
            return moment

    def finish(self, author_id: str, fingerprint: str) -> None:
        self._file.watched.pop(author_id, None)
        with self._file.writing() as connection:
            connection.execute("DELETE FROM runs WHERE author_id=? AND fingerprint=?", (author_id, fingerprint))

    def record_document_failures(self, failures: Iterable[DocumentFailure]) -> None:
        rows = [(one.document_id, one.author_id, one.model_dump_json()) for one in failures]
        with self._file.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO document_failures VALUES(?, ?, ?)", rows)

    def resolve_document_failures(self, document_ids: Iterable[str]) -> None:
        rows = [(document_id,) for document_id in document_ids]
        with self._file.writing() as connection:
            connection.executemany("DELETE FROM document_failures WHERE document_id=?", rows)

    def document_failures(self, *, author_id: str | None = None) -> Iterator[DocumentFailure]:
        condition, values = ("", ()) if author_id is None else (" AND author_id=?", (author_id,))
        query = (
            "SELECT document_id, failure FROM document_failures "
            f"WHERE document_id>?{condition} ORDER BY document_id LIMIT {PAGE}"
        )
        last: str | None = ""
        while last is not None:
            with self._file.reading() as connection:
                page = connection.execute(query, (last, *values)).fetchall()
            yield from (DocumentFailure.model_validate_json(failure) for _, failure in page)
            last = page[-1][0] if page else None

    def holds(self, subject: DataSubject) -> int:
        with self._file.reading() as connection:
            query = "SELECT count(*) FROM ledger WHERE author_id=?"
            return connection.execute(query, (subject.author_id,)).fetchone()[0]

    def erase(self, subject: DataSubject) -> Erased:
        with self._file.writing() as connection:
            erased = connection.execute("DELETE FROM ledger WHERE author_id=?", (subject.author_id,)).rowcount
            connection.execute("DELETE FROM runs WHERE author_id=?", (subject.author_id,))
            connection.execute("DELETE FROM document_failures WHERE author_id=?", (subject.author_id,))
            self._file.note_erasure(connection, subject.author_id)
        self._file.wipe()
        return Erased(erased)
