"""The warehouse and ledger on a MongoDB replica set."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from llm_engineering.domain.documents import Document, WarehouseRef
from llm_engineering.domain.errors import StoreCorrupt, StoreUnavailable, TokenExpired
from llm_engineering.domain.ledger import DocumentFailure, LedgerEntry, Outcome
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Change, Erased, PutResult, Restored
from llm_engineering.infrastructure.warehouse.mongo_database import MongoDatabase
from llm_engineering.infrastructure.warehouse.rows import (
    MEND,
    Decide,
    Kept,
    Row,
    Spool,
    Stamp,
    Stored,
    change_of,
    decode,
    now,
    put,
    restore,
)

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection

PAGE = 500  # keys per query
BODIES = 16  # documents per query; each at most 16 MB
MAX_PAYLOAD = 16 * 2**20 - 2**16  # compressed; MongoDB's limit on a document less room for the other fields
AWAIT_MS = 100  # how long the server waits for one more event before it says there is none
MAX_EMPTY = 50  # empty answers in a row after which a busy server's log counts as read
UNREACHED = (
    "MongoDB keeps deleted text in its operation log and in free blocks of its files until it writes over them "
    "(docs/warehouse.md)"
)

_EVENTS = [
    {"$match": {"operationType": {"$in": ["insert", "update", "replace", "delete"]}}},
    {"$project": {"operationType": 1, "documentKey": 1}},
]
T = TypeVar("T")


def open_mongo(url: str) -> tuple["MongoWarehouse", "MongoLedger"]:
    """Both in the database the URL names, `llm_twin` when it names none.

    Raises ConfigError for an unusable URL, StoreUnavailable when the server is down, refuses the user, or is no
    replica set. No message holds the user or the password.
    """
    database = MongoDatabase(url)
    return MongoWarehouse(database), MongoLedger(database)


class MongoWarehouse:
    """See `Warehouse`. Each `put` is one transaction; mongod ends one that takes more than 60 s.

    A document's text is kept compressed, so that no key, NUL byte or size below some 50 MB is a problem; one that is
    over 16 MB even so raises StoreUnavailable. Two documents of one `put` with the same link and different content
    raise LinkConflict.
    """

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._documents = database.documents

    @property
    def ref(self) -> WarehouseRef:
        return WarehouseRef(id=self._database.identity, place=self._database.where)

    def adopt(self, warehouse_id: str) -> None:
        self._database.adopt(warehouse_id)

    def put(self, documents: Iterable[Document]) -> PutResult:
        return put(documents, self._upsert)

    def erasures(self) -> int:
        return self._database.erasures(None)

    def restore(self, documents: Iterable[Document]) -> Restored:
        """As `put`, but revisions and dates come from the documents, and what is stored stays when it is newer."""
        return restore(documents, self._upsert)

    def _upsert(self, spool: Spool, decide: Decide) -> Counter:
        def write(session: "ClientSession") -> Counter:
            self._database.check(spool.author_ids, session)
            done: Counter = Counter()
            for rows in _chunks(spool, PAGE, size=lambda row: len(row.payload)):
                done.update(self._write(rows, decide, session))
            return done

        return self._database.transaction(write) if len(spool) else Counter()

    def _write(self, rows: list[Row], decide: Decide, session: "ClientSession") -> Counter:
        from pymongo import ReplaceOne

        done, moment, writes = Counter(), now(), []
        wanted = {"_id": {"$in": [row.id for row in rows]}}
        fields = ("content_hash", "revision", "updated_at")
        found = self._documents.find(wanted, fields, session=session)
        stored = {
            f["_id"]: Stored(
                f["content_hash"], Stamp(f["revision"], f["updated_at"]), partial(self._is_intact, f["_id"], session)
            )
            for f in found
        }
        for row in rows:
            verdict = decide(row, stored.get(row.id), moment)
            if isinstance(verdict, Kept):
                done[verdict] += 1
                continue
            done["updated" if row.id in stored else "inserted"] += 1
            writes.append(ReplaceOne({"_id": row.id}, self._record(row, verdict), upsert=True))
        if writes:
            self._documents.bulk_write(writes, session=session)
        return done

    def _is_intact(self, document_id: str, session: "ClientSession") -> bool:
        try:
            return self._decode(self._documents.find_one({"_id": document_id}, session=session) or {}) is not None
        except StoreCorrupt:
            return False

    def _record(self, row: Row, stamp: Stamp) -> dict[str, Any]:
        payload = zlib.compress(row.payload, 1)
        if len(payload) > MAX_PAYLOAD:
            raise StoreUnavailable(
                f"{row.link}: {len(payload) / 2**20:.1f} MiB compressed, and MongoDB takes at most 16 in one document; "
                "lower the source's size limit (fetch.max_bytes, git.max_file_bytes). Nothing was written"
            )
        record = row._asdict() | stamp._asdict() | {"_id": row.id, "payload": payload}
        del record["id"]
        return record

    def get(self, document_id: str) -> Document | None:
        with self._database.explained():
            found = self._documents.find_one({"_id": document_id})
        return self._decode(found) if found else None

    def documents(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[Document]:
        for record in _pages(
            self._database, self._documents, _where(author_id=author_id, crawled_from=crawled_from), BODIES
        ):
            yield self._decode(record)

    def ids(self, *, author_id: str | None = None, crawled_from: str | None = None) -> Iterator[str]:
        where = _where(author_id=author_id, crawled_from=crawled_from)
        return (record["_id"] for record in _pages(self._database, self._documents, where, PAGE, ("_id",)))

    def count(self, *, author_id: str | None = None) -> int:
        with self._database.explained():
            return self._documents.count_documents(_where(author_id=author_id))

    def authors(self) -> dict[str, int]:
        """Every author's name and how many documents there are, by name."""
        group = {"_id": "$author_id", "name": {"$min": "$author_name"}, "count": {"$sum": 1}}
        with self._database.explained():
            return {
                r["name"]: r["count"] for r in self._documents.aggregate([{"$group": group}, {"$sort": {"name": 1}}])
            }

    def delete(self, document_ids: Iterable[str]) -> int:
        wanted = list(document_ids)

        def write(session: "ClientSession") -> int:
            chunks = _chunks(wanted, 10_000)
            return sum(self._documents.delete_many({"_id": {"$in": c}}, session=session).deleted_count for c in chunks)

        return self._database.transaction(write) if wanted else 0

    def holds(self, subject: DataSubject) -> int:
        return self.count(author_id=subject.author_id)

    def erase(self, subject: DataSubject) -> Erased:
        def write(session: "ClientSession") -> int:
            self._database.note_erasure(subject.author_id, session)
            return self._documents.delete_many({"author_id": subject.author_id}, session=session).deleted_count

        return Erased(self._database.transaction(write), UNREACHED)

    def changes(self, since: str | None) -> Iterator[Change]:
        """From the beginning: all documents by id, then what happened since that reading began."""
        position = self._position(since)
        if position.after is not None:
            yield from self._first_reading(position.resume, position.after)
        yield from self._events(position.resume)

    def _first_reading(self, resume: dict, after: str) -> Iterator[Change]:
        waiting: dict | None = None  # a token can say that the first reading is over only with the last of them
        for record in _pages(self._database, self._documents, {}, BODIES, after=after):
            if waiting:
                yield self._change(waiting, self._token(resume, after=waiting["_id"]))
            waiting = record
        if waiting:
            yield self._change(waiting, self._token(resume))

    def _change(self, record: dict, token: str) -> Change:
        return change_of(record["_id"], token, partial(self._decode, record))

    def _events(self, resume: dict) -> Iterator[Change]:
        with self._watch(resume) as stream:
            empty, before = 0, None
            while empty < MAX_EMPTY:
                with self._database.explained():
                    event = stream.try_next()
                if event is None and not stream.alive:
                    raise TokenExpired(f"{self._database.where}: the collection was dropped: read everything again")
                if event is not None:
                    empty, document_id = 0, event["documentKey"]["_id"]
                    yield change_of(document_id, self._token(event["_id"]), partial(self.get, document_id))
                elif stream.resume_token == before:  # twice the same place: the log is read to its end
                    return
                else:
                    empty, before = empty + 1, stream.resume_token

    def _watch(self, resume: dict | None):
        with self._database.explained():
            return self._documents.watch(_EVENTS, resume_after=resume, max_await_time_ms=AWAIT_MS)

    def _position(self, since: str | None) -> "_Position":
        from bson import json_util

        if since is None:
            with self._watch(None) as stream, self._database.explained():
                stream.try_next()
                return _Position(stream.resume_token, after="")
        try:
            token = json_util.loads(since)
            feed, position = token["feed"], _Position(token["resume"], token.get("after"))
        except (ValueError, TypeError, KeyError, AttributeError):
            feed = None
        if feed != self._database.feed:
            raise TokenExpired(f"the token {since[:40]!r} is not of {self._database.where}: read everything again")
        return position

    def _token(self, resume: dict, after: str | None = None) -> str:
        from bson import json_util

        token = {"feed": self._database.feed, "resume": resume} | ({"after": after} if after is not None else {})
        return json_util.dumps(token)

    def _decode(self, record: dict) -> Document:
        where = f"{self._database.where}, document {record['_id']}"
        try:
            payload = zlib.decompress(record["payload"])
            stamp = record["revision"], record["updated_at"], record["content_hash"]
        except (zlib.error, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{where} cannot be read ({error}); {MEND}") from error
        return decode(record["_id"], payload, *stamp, where=where)

    def close(self) -> None:
        self._database.close()


class _Position(NamedTuple):
    resume: dict
    after: str | None  # the last id read of a first reading that is not over; None when it is


class MongoLedger:
    """See `Ledger`. Lives in the warehouse's database, and is closed with it."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        from pymongo import ReplaceOne

        for chunk in _chunks(entries, PAGE):
            writes = [
                ReplaceOne(
                    {"_id": e.link},
                    {"_id": e.link, "author_id": e.author_id, "outcome": str(e.outcome), "entry": e.model_dump_json()},
                    upsert=True,
                )
                for e in chunk
            ]
            self._database.transaction(partial(self._write, writes, {entry.author_id for entry in chunk}))

    def _write(self, writes: list, author_ids: set[str], session: "ClientSession") -> None:
        self._database.check(author_ids, session)
        self._database.ledger.bulk_write(writes, session=session)

    def entry(self, link: str) -> LedgerEntry | None:
        with self._database.explained():
            found = self._database.ledger.find_one({"_id": link})
        return LedgerEntry.model_validate_json(found["entry"]) if found else None

    def entries(
        self, *, author_id: str | None = None, outcome: Outcome | tuple[Outcome, ...] | None = None
    ) -> Iterator[LedgerEntry]:
        outcomes = (outcome,) if isinstance(outcome, Outcome) else outcome
        where = _where(author_id=author_id, outcome=outcomes and {"$in": [str(one) for one in outcomes]})
        for record in _pages(self._database, self._database.ledger, where, PAGE):
            yield LedgerEntry.model_validate_json(record["entry"])

    def begin(self, author_id: str, fingerprint: str) -> datetime:
        """An author has one unfinished run: beginning one with another fingerprint forgets it."""
        self._database.watch(author_id)
        with self._database.explained():
            found = self._database.runs.find_one({"_id": author_id, "fingerprint": fingerprint})
            if found:
                return datetime.fromisoformat(found["began_at"])
            moment = datetime.now(UTC)
            run = {"_id": author_id, "fingerprint": fingerprint, "began_at": moment.isoformat()}
            self._database.runs.replace_one({"_id": author_id}, run, upsert=True)
            return moment

    def finish(self, author_id: str, fingerprint: str) -> None:
        self._database.watched.pop(author_id, None)
        with self._database.explained():
            self._database.runs.delete_one({"_id": author_id, "fingerprint": fingerprint})

    def record_document_failures(self, failures: Iterable[DocumentFailure]) -> None:
        from pymongo import ReplaceOne

        for chunk in _chunks(failures, PAGE):
            rows = [{"_id": f.document_id, "author_id": f.author_id, "failure": f.model_dump_json()} for f in chunk]
            with self._database.explained():
                self._database.document_failures.bulk_write(
                    [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows]
                )

    def resolve_document_failures(self, document_ids: Iterable[str]) -> None:
        for chunk in _chunks(document_ids, PAGE):
            with self._database.explained():
                self._database.document_failures.delete_many({"_id": {"$in": chunk}})

    def document_failures(self, *, author_id: str | None = None) -> Iterator[DocumentFailure]:
        for record in _pages(self._database, self._database.document_failures, _where(author_id=author_id), PAGE):
            yield DocumentFailure.model_validate_json(record["failure"])

    def holds(self, subject: DataSubject) -> int:
        with self._database.explained():
            return self._database.ledger.count_documents({"author_id": subject.author_id})

    def erase(self, subject: DataSubject) -> Erased:
        theirs = {"author_id": subject.author_id}

        def write(session: "ClientSession") -> int:
            self._database.note_erasure(subject.author_id, session)
            self._database.runs.delete_one({"_id": subject.author_id}, session=session)
            self._database.document_failures.delete_many(theirs, session=session)
            return self._database.ledger.delete_many(theirs, session=session).deleted_count

        return Erased(self._database.transaction(write), UNREACHED)


def _where(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _pages(
    database: MongoDatabase,
    collection: "Collection",
    where: dict[str, object],
    page: int,
    fields: tuple[str, ...] | None = None,
    *,
    after: str = "",
) -> Iterator[dict[str, Any]]:
    """Ordered by id. Short queries, because the server closes a cursor that a slow consumer leaves idle."""
    while True:
        with database.explained():
            found = list(collection.find(where | {"_id": {"$gt": after}}, fields).sort("_id", 1).limit(page))
        yield from found
        if len(found) < page:
            return
        after = found[-1]["_id"]


def _chunks(items: Iterable[T], count: int, *, size: Callable[[T], int] = lambda _: 0) -> Iterator[list[T]]:
    """Lists of at most `count` items and some 32 MB."""
    chunk, weight = [], 0
    for item in items:
        chunk.append(item)
        weight += size(item)
        if len(chunk) == count or weight > 32 * 2**20:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk
