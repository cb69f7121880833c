"""One SQLite file: its tables, its connections, and what its errors mean."""

import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_engineering.domain.errors import LinkConflict, StoreCorrupt, StoreLocked, StoreUnavailable
from llm_engineering.infrastructure.files import make_folder, open_private, reason_of
from llm_engineering.infrastructure.warehouse.rows import author_erased, erasure_key, feed_id

SCHEMA_VERSION = 1
READ_ONLY = "the file or its folder is read-only; what only reads goes on (poe ask, poe serve, poe crawl-status)"
APPLICATION_ID = 0x7457494E  # "tWIN", so that another program's database is not taken for ours

# A tombstone keeps only `id` and `seq`. `seq` is set inside the write transaction, and writers wait for each other,
# so its order is the order of the commits: a reader never passes a number that is still to come.
SCHEMA = (
    """CREATE TABLE documents(
        id TEXT PRIMARY KEY, seq INTEGER NOT NULL, link TEXT, author_id TEXT, author_name TEXT, crawled_from TEXT,
        source TEXT, content_hash TEXT, revision INTEGER, updated_at TEXT, payload BLOB)""",
    "CREATE UNIQUE INDEX documents_seq ON documents(seq)",
    "CREATE UNIQUE INDEX documents_link ON documents(link)",
    "CREATE INDEX documents_live ON documents(id) WHERE link IS NOT NULL",
    "CREATE INDEX documents_author ON documents(author_id, id)",
    "CREATE INDEX documents_crawled_from ON documents(crawled_from, id)",
    "CREATE INDEX documents_source ON documents(source, id)",
    """CREATE TABLE ledger(
        link TEXT PRIMARY KEY, author_id TEXT NOT NULL, outcome TEXT NOT NULL, entry TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX ledger_author ON ledger(author_id, link)",
    "CREATE INDEX ledger_outcome ON ledger(outcome, link)",
    "CREATE TABLE runs(author_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, began_at TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE about(feed TEXT NOT NULL, seq INTEGER NOT NULL)",
)
# Came later: made in older files of the same version, too. `erasures` holds no author, see `erasure_key`
LATER = (
    """CREATE TABLE IF NOT EXISTS document_failures(
        document_id TEXT PRIMARY KEY, author_id TEXT NOT NULL, failure TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS erasures(author TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS adopted(identity TEXT NOT NULL)",
)
LITTLE_SPACE = 2**20  # bytes; with less on the disk, an error that says nothing is the full disk's


class _Connection(sqlite3.Connection):
    """Can be referred to weakly, so that a finished thread's connection goes with the thread."""


class SqliteFile:
    """One connection per thread; readers run beside the one writer (WAL).

    Every commit is flushed to the disk: an index may hold a token of the change feed, and the feed must never fall
    back behind it. What is deleted is overwritten. A file that cannot be written, or whose folder cannot, is read.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._mine = threading.local()
        self._all: weakref.WeakSet[sqlite3.Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self.watched: dict[str, int] = {}  # author's id -> how often they had been erased when a run of theirs began
        self.read_only = path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
        with self._explained():
            if not self.read_only:
                make_folder(path.parent)
                os.close(open_private(path, os.O_RDWR | os.O_CREAT))
            with self.reading() if self.read_only else self.writing() as connection:
                self._check_version(connection)
                if not self.read_only:
                    self._make_tables(connection)
                self.feed, self.identity = self._names(connection)

    def _names(self, connection: sqlite3.Connection) -> tuple[str, str]:
        """The feed's, and the warehouse's own."""
        feed = connection.execute("SELECT feed FROM about").fetchone()[0]
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='adopted'").fetchone():
            return feed, feed  # an older file that is only read
        adopted = connection.execute("SELECT identity FROM adopted").fetchone()
        return feed, adopted[0] if adopted else feed

    def adopt(self, identity: str) -> None:
        """Only while nothing was ever stored."""
        with self.writing() as connection:
            if connection.execute("SELECT seq FROM about").fetchone()[0] == 0:
                connection.execute("DELETE FROM adopted")
                connection.execute("INSERT INTO adopted VALUES(?)", (identity,))
                self.identity = identity

    def erasures(self, connection: sqlite3.Connection, author_id: str | None) -> int:
        """How often the author was erased; None: how often anybody was."""
        if author_id is None:
            return connection.execute("SELECT coalesce(sum(number), 0) FROM erasures").fetchone()[0]
        key = erasure_key(self.feed, author_id)
        found = connection.execute("SELECT number FROM erasures WHERE author=?", (key,)).fetchone()
        return found[0] if found else 0

    def note_erasure(self, connection: sqlite3.Connection, author_id: str) -> None:
        key = erasure_key(self.feed, author_id)
        upsert = "INSERT INTO erasures VALUES(?, 1) ON CONFLICT(author) DO UPDATE SET number=number+1"
        connection.execute(upsert, (key,))

    def watch(self, connection: sqlite3.Connection, author_id: str) -> None:
        """From here on `check` knows whether the author was erased meanwhile."""
        self.watched[author_id] = self.erasures(connection, author_id)

    def check(self, author_ids: Iterable[str], connection: sqlite3.Connection) -> None:
        """Within a transaction that writes something of theirs. Raises AuthorErased."""
        for author_id in self.watched.keys() & set(author_ids):
            if self.erasures(connection, author_id) != self.watched[author_id]:
                raise author_erased(str(self.path))

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        if tables and owner != APPLICATION_ID:
            raise StoreUnavailable(f"{self.path} is another program's SQLite database; choose another TWIN_WAREHOUSE")
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{self.path} was written by a newer version of this program (schema {version}, this one knows "
                f"{SCHEMA_VERSION}): update the program, or choose another TWIN_WAREHOUSE"
            )

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES(?, 0)", (feed_id(),))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in LATER:
            connection.execute(statement)

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable(f"{self.path}: the warehouse was closed; open it again")
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._connect()
            with self._lock:
                self._all.add(connection)
            self._mine.connection = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._read_only_uri() if self.read_only else self.path,
            uri=self.read_only,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        if self.read_only:
            return connection
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _read_only_uri(self) -> str:
        """SQLite wants to write beside a file with a write-ahead log, unless it is told that nobody does. One whose log
        holds something is read with its log."""
        log = self.path.with_name(self.path.name + "-wal")
        has_log = log.exists() and log.stat().st_size > 0
        return f"{self.path.absolute().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        with self._explained():
            yield self._connection()

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """One transaction: all of it, or nothing."""
        if self.read_only:
            raise StoreUnavailable(f"{self.path} can only be read: {READ_ONLY}. Nothing was written")
        with self._explained():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    def wipe(self) -> None:
        """Leave no copy of what was deleted: rewrite the file without its free pages, and empty the write-ahead log.
        Needs as much room again as the file takes.

        Raises StoreLocked when another process writes or still reads an older state, or the disk is full.
        """
        connection = self._connection()
        try:
            connection.execute("VACUUM")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            busy = error
        if busy:
            raise StoreLocked(
                f"{self.path}: what was erased is deleted, but copies may remain in the file and its -wal, because "
                f"another process uses it or the disk is full ({busy}); mend that and run the same command again"
            )

    def close(self) -> None:
        self._closed = True
        with self._lock:
            for connection in list(self._all):
                connection.close()

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error
        except OSError as error:
            raise StoreUnavailable(f"{self.path} cannot be used ({reason_of(error)})") from error

    def _explain(self, error: sqlite3.Error) -> StoreUnavailable | LinkConflict:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreLocked(
                    f"{self.path}: another process has been writing for more than {self._timeout:g} s; wait for it to "
                    "end and run again. Nothing was written"
                )
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return StoreCorrupt(
                    f"{self.path} is damaged or no SQLite database ({error}); put a backup in its place, or move it "
                    "away and crawl again, or import an export (poe warehouse import)"
                )
            case sqlite3.SQLITE_READONLY:
                return StoreUnavailable(f"{self.path} can only be read: {READ_ONLY}. Nothing was written")
            case sqlite3.SQLITE_FULL:
                return self._full()
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN if self._disk_is_full():
                return self._full()
            case sqlite3.SQLITE_CONSTRAINT:
                return LinkConflict(f"{self.path}: {error}. Nothing was written")
        if isinstance(error, sqlite3.ProgrammingError) and self._closed:
            return StoreUnavailable(f"{self.path}: the warehouse was closed; open it again")
        return StoreUnavailable(
            f"{self.path} cannot be used ({error}); is the folder there, writable and on a local disk?"
        )

    def _full(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.path}: the disk is full; free some space and run again. Nothing was written")

    def _disk_is_full(self) -> bool:
        with suppress(OSError):
            return shutil.disk_usage(self.path.parent).free < LITTLE_SPACE
        return False
