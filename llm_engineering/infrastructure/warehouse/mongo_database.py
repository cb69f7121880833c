"""One MongoDB database: the connection, its collections, and what its errors mean."""

import random
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from llm_engineering.domain.errors import ConfigError, LinkConflict, StoreLocked, StoreUnavailable, TokenExpired
from llm_engineering.domain.text import redacted_url
from llm_engineering.infrastructure.warehouse.rows import author_erased, erasure_key, feed_id

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.errors import OperationFailure

T = TypeVar("T")

SCHEMA_VERSION = 1
DATABASE = "llm_twin"  # when the URL names none
BUSY_SECONDS = 30  # a write tries again for so long while others write the same documents
TIMES = {  # unless the URL says otherwise
    "serverSelectionTimeoutMS": 5_000,  # to find the primary
    "socketTimeoutMS": 120_000,  # for one answer; without it a server that hangs holds a run for ever
}

# codes: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_EXPIRED = {136, 260, 280, 286}  # capped position lost, bad resume token, change stream fatal, history lost
_BUSY = {24, 50, 112, 251, 262}  # lock timeout, time limit, write conflict, no such transaction, time limit
_NO_REPLICA_SET = {20, 40573}  # transactions, change streams
_NOT_ALLOWED = {13, 18}  # unauthorized, authentication failed
_FULL = {14031}
_DUPLICATE = {11000}


class MongoDatabase:
    """Raises StoreUnavailable when the server is not there, not a replica set, or of a newer version."""

    def __init__(self, url: str) -> None:
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, InvalidName, InvalidURI

        self.where = redacted_url(url)
        options: dict[str, Any] = {"appname": "llm-twin", "w": "majority"}
        for name, milliseconds in TIMES.items():
            if name.lower() not in url.lower():
                options[name] = milliseconds
        try:
            self._client = MongoClient(url, **options)
            self._database = self._client.get_default_database(DATABASE)
        except (InvalidURI, InvalidName, ConfigurationError, ValueError):
            # the reason may quote the password
            raise ConfigError(
                f"TWIN_WAREHOUSE={self.where}: no usable MongoDB address; write mongodb://USER:PASSWORD@HOST:PORT/"
                "DATABASE, with special characters of the user and the password percent-encoded"
            ) from None
        self.documents = self._database["documents"]
        self.ledger = self._database["ledger"]
        self.runs = self._database["runs"]
        self.document_failures = self._database["document_failures"]
        self.watched: dict[str, int] = {}  # author's id -> how often they had been erased when a run of theirs began
        self._erasures = self._database["erasures"]  # holds no author, see `erasure_key`
        try:
            with self.explained():
                self._require_replica_set()
                self.feed, self.identity = self._prepare()
        except BaseException:
            self._client.close()
            raise

    def _require_replica_set(self) -> None:
        hello = self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StoreUnavailable(self._alone())

    def _alone(self) -> str:
        return (
            f"{self.where} is a standalone server; transactions and change streams need a replica set, one member is "
            "enough: start it with `mongod --replSet rs0` and run `rs.initiate()` once, or use docker-compose.yml"
        )

    def _prepare(self) -> tuple[str, str]:
        about = self._database["about"].find_one_and_update(
            {"_id": "warehouse"},
            {"$setOnInsert": {"feed": feed_id(), "schema": SCHEMA_VERSION}},
            upsert=True,
            return_document=True,
        )
        assert about is not None  # it was just made, if it was not there
        if about["schema"] > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{self.where} was written by a newer version of this program (schema {about['schema']}, this one "
                f"knows {SCHEMA_VERSION}): update the program, or choose another database"
            )
        self.documents.create_index("link", unique=True)
        for field in ("author_id", "crawled_from", "source"):
            self.documents.create_index([(field, 1), ("_id", 1)])
        for field in ("author_id", "outcome"):
            self.ledger.create_index([(field, 1), ("_id", 1)])
        return about["feed"], about.get("adopted", about["feed"])

    def adopt(self, identity: str) -> None:
        """Only while nothing is stored."""
        with self.explained():
            if self.documents.find_one({}, ("_id",)) is None:
                self._database["about"].update_one({"_id": "warehouse"}, {"$set": {"adopted": identity}})
                self.identity = identity

    def erasures(self, author_id: str | None) -> int:
        """How often the author was erased; None: how often anybody was."""
        wanted = {} if author_id is None else {"_id": erasure_key(self.feed, author_id)}
        with self.explained():
            return sum(found["number"] for found in self._erasures.find(wanted))

    def note_erasure(self, author_id: str, session: "ClientSession") -> None:
        key = {"_id": erasure_key(self.feed, author_id)}
        self._erasures.update_one(key, {"$inc": {"number": 1}}, upsert=True, session=session)

    def watch(self, author_id: str) -> None:
        """From here on `check` knows whether the author was erased meanwhile."""
        self.watched[author_id] = self.erasures(author_id)

    def check(self, author_ids: Iterable[str], session: "ClientSession") -> None:
        """Within a transaction that writes something of theirs. Raises AuthorErased. It writes to what `note_erasure`
        writes to, so that of two that overlap one has to begin again and sees the other."""
        for author_id in self.watched.keys() & set(author_ids):
            key = {"_id": erasure_key(self.feed, author_id)}
            write = {"$inc": {"writes": 1}, "$setOnInsert": {"number": 0}}
            found = self._erasures.find_one_and_update(key, write, upsert=True, return_document=True, session=session)
            if found and found["number"] != self.watched[author_id]:
                raise author_erased(self.where)

    def transaction(self, write: "Callable[[ClientSession], T]") -> T:
        """All of it, or nothing. `write(session)` runs again when another writer was faster, for some `BUSY_SECONDS`,
        and once when the connection broke."""
        from pymongo.errors import ConnectionFailure, PyMongoError

        deadline, broken = time.monotonic() + BUSY_SECONDS, 0
        with self.explained(), self._client.start_session() as session:
            while True:
                try:
                    with session.start_transaction():
                        return write(session)
                except PyMongoError as error:
                    broken += isinstance(error, ConnectionFailure)
                    again = error.has_error_label("TransientTransactionError") and broken < 2
                    if not again or time.monotonic() > deadline:
                        raise
                    time.sleep(random.uniform(0, 0.02))  # so that two writers do not collide again

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def explained(self) -> Generator[None]:
        from pymongo.errors import InvalidOperation, OperationFailure, PyMongoError

        try:
            yield
        except OperationFailure as error:
            raise self._explain(*_reason(error)) from error
        except InvalidOperation as error:
            raise StoreUnavailable(f"{self.where}: the warehouse was closed; open it again ({error})") from error
        except PyMongoError as error:
            short = str(error).partition(", Timeout:")[0]
            raise StoreUnavailable(
                f"{self.where} cannot be reached ({short}): is the server running, and the address right? Try again "
                "then. A write that was under way is done whole or not at all"
            ) from error

    def _explain(self, code: int | None, message: str) -> Exception:
        if code in _EXPIRED:
            return TokenExpired(f"{self.where}: the change feed no longer reaches back ({message}): read all again")
        if code in _BUSY:
            return StoreLocked(f"{self.where}: others keep writing ({message}); run again. Nothing was written")
        if code in _NO_REPLICA_SET:
            return StoreUnavailable(self._alone())
        if code in _NOT_ALLOWED:
            return StoreUnavailable(
                f"{self.where} does not let this user in ({message}): check the user, the password and authSource in "
                "TWIN_WAREHOUSE; the user needs the role readWrite"
            )
        if code in _FULL or "No space left" in message:
            return StoreUnavailable(f"{self.where}: the server's disk is full; free some space and run again")
        if code in _DUPLICATE:
            return LinkConflict(f"{self.where}: {message}. Nothing was written")
        return StoreUnavailable(f"{self.where} refused ({message})")


def _reason(error: "OperationFailure") -> tuple[int | None, str]:
    """Code and message. A bulk write hides its own one level down."""
    errors = (error.details or {}).get("writeErrors") or []
    if errors:
        return errors[0].get("code"), errors[0].get("errmsg", "")
    return error.code, str(error).partition(", full error:")[0]
