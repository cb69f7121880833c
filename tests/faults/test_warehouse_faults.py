"""A warehouse that is down, locked, full, corrupt or somebody else's: the error says what, where and what to do,
and nothing is lost or half-written."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from mongo_server import free_port, start_mongo_server
from stores import a_document, an_entry

from llm_engineering.domain.errors import (
    ConfigError,
    LinkConflict,
    StoreCorrupt,
    StoreLocked,
    StoreUnavailable,
    TokenExpired,
)
from llm_engineering.infrastructure.warehouse import rows
from llm_engineering.infrastructure.warehouse.mongo import open_mongo
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

PASSWORD = "s3cret-pass"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "warehouse.db"


@pytest.fixture
def stores(path):
    warehouse, ledger = open_sqlite(path, timeout=0.2)
    yield warehouse, ledger
    warehouse.close()


# --- SQLite -------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(path):
    path.write_bytes(b"dear diary, " * 1000)
    with pytest.raises(StoreCorrupt, match=r"warehouse\.db is damaged or no SQLite database.*backup"):
        open_sqlite(path)
    assert path.read_bytes() == b"dear diary, " * 1000


def test_a_damaged_file_is_reported_when_the_damage_is_read(path):
    warehouse, _ = open_sqlite(path)
    warehouse.put(a_document(f"{i}", "x" * 3000) for i in range(200))
    warehouse.close()
    noise = random.Random(0).randbytes(path.stat().st_size - 3 * 4096)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(noise)
    with pytest.raises(StoreCorrupt, match="poe warehouse import"):  # noqa: PT012
        warehouse, _ = open_sqlite(path)
        list(warehouse.documents())


def test_a_damaged_document_is_named(stores, path):
    warehouse, _ = stores
    warehouse.put([a_document()])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET payload=?", (b'{"link": "half',))
    with pytest.raises(StoreCorrupt, match=rf"warehouse\.db, document {a_document().id} holds a document that cannot"):
        warehouse.get(a_document().id)


def test_a_damaged_document_does_not_keep_the_others_from_the_change_feed(stores, path):
    warehouse, _ = stores
    warehouse.put([a_document("a"), a_document("b"), a_document("c")])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET payload=? WHERE id=?", (b"half", a_document("b").id))
    first, damaged, last = warehouse.changes(None)
    assert (first.document.link, last.document.link) == (a_document("a").link, a_document("c").link)
    assert (damaged.document_id, damaged.document) == (a_document("b").id, None)
    assert "cannot be read" in str(damaged.error)


def test_no_flipped_byte_is_given_out_as_what_was_written(path):
    """Every byte of the file that belongs to a document's text, its title, its links and what is known of it."""
    whole = a_document("a", "The text of it. " * 20, title="A title", meta={"commit": "abc"}, url="https://u.example/")
    warehouse, _ = open_sqlite(path)
    warehouse.put([whole])
    with warehouse._file.reading() as connection:
        [(payload,)] = connection.execute("SELECT payload FROM documents").fetchall()
    for at in range(0, len(payload), 3):
        for bit in (1, 64):
            flipped = payload[:at] + bytes([payload[at] ^ bit]) + payload[at + 1 :]
            with warehouse._file.writing() as connection:
                connection.execute("UPDATE documents SET payload=?", (flipped,))
            for read in (lambda: warehouse.get(whole.id), lambda: list(warehouse.documents())):
                with pytest.raises(StoreCorrupt, match=rf"document {whole.id} .*run-etl --no-cache"):
                    read()
            [change] = warehouse.changes(None)
            assert (change.document, type(change.error)) == (None, StoreCorrupt)
    assert warehouse.put([whole]).updated == 1  # reading the link again mends it
    assert [(one.body, one.url, one.meta, one.revision) for one in warehouse.documents()] == [
        (whole.body, whole.url, whole.meta, 2)
    ]
    warehouse.close()


@pytest.mark.parametrize("change", ["body", "title", "link"])
def test_a_document_that_somebody_rewrote_is_not_what_was_stored(path, change):
    """With a seal of their own, or as older versions wrote it, without one: the content's hash is looked at, too."""
    warehouse, _ = open_sqlite(path)
    warehouse.put([a_document("a", title="A title")])
    with warehouse._file.reading() as connection:
        [(payload,)] = connection.execute("SELECT payload FROM documents").fetchall()
    fields = json.loads(payload[: -rows.SEAL])
    for rewritten in (fields, fields | {change: fields[change] + "!"}):
        bare = json.dumps(rewritten).encode()
        for forged in (bare, rows._sealed(bare)):
            with warehouse._file.writing() as connection:
                connection.execute("UPDATE documents SET payload=?", (forged,))
            if rewritten == fields:
                assert [document.body for document in warehouse.documents()] == ["text"]
            else:
                with pytest.raises(StoreCorrupt, match="not what was stored under its link and its content hash"):
                    warehouse.get(a_document("a").id)
    assert warehouse.put([a_document("a", title="A title")]).updated == 1
    warehouse.close()


def test_a_file_of_before_documents_could_fail_is_read(stores, path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE document_failures")
    again, ledger = open_sqlite(path)
    assert list(ledger.document_failures()) == []
    again.close()


def test_another_programs_database_is_not_touched(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE holiday(photo)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="another program's SQLite database"):
        open_sqlite(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("holiday",)]
    assert len(before) == path.stat().st_size


def test_a_newer_programs_database_is_refused(path):
    open_sqlite(path)[0].close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreUnavailable, match=r"newer version of this program .schema 99.*update"):
        open_sqlite(path)


def test_a_writer_that_is_too_slow_is_waited_for_then_named_and_nothing_is_lost(stores, path):
    warehouse, ledger = stores
    warehouse.put([a_document("a")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for write in (
        lambda: warehouse.put([a_document("b")]),
        lambda: warehouse.delete([a_document("a").id]),
        lambda: ledger.record([an_entry()]),
        lambda: open_sqlite(path, timeout=0.1),
    ):
        with pytest.raises(StoreLocked, match=r"warehouse\.db: another process has been writing.*run again"):
            write()
    assert list(warehouse.ids()) == [a_document("a").id]  # reading goes on
    other.execute("COMMIT")
    other.close()
    assert warehouse.put([a_document("b")]).inserted == 1


def test_a_full_disk_is_said_and_nothing_is_half_written(stores):
    warehouse, _ = stores
    warehouse.put([a_document("a")])
    with warehouse._file.reading() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(StoreUnavailable, match=r"warehouse\.db: the disk is full; free some space"):
        warehouse.put(a_document(f"{i}", "x" * 50_000) for i in range(20))
    assert list(warehouse.ids()) == [a_document("a").id]
    with warehouse._file.reading() as connection:
        connection.execute("PRAGMA max_page_count=1000000")
    assert warehouse.put(a_document(f"{i}", "x" * 50_000) for i in range(20)).inserted == 20


def test_a_write_that_the_system_refuses_is_said_and_nothing_is_half_written(path):
    """The operating system's own refusal: files of this process may not grow beyond a megabyte."""
    script = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stores import a_document
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
warehouse, _ = open_sqlite(Path(sys.argv[1]))
warehouse.put([a_document("a")])
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    warehouse.put(a_document(str(i), "x" * 50_000) for i in range(100))
except StoreUnavailable as error:
    print(error)
"""
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script, path, here], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "warehouse.db" in done.stdout
    warehouse, _ = open_sqlite(path)
    assert list(warehouse.ids()) == [a_document("a").id]
    warehouse.close()


def test_a_full_temporary_folder_is_said_and_nothing_is_written(stores, monkeypatch, tmp_path):
    warehouse, _ = stores
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreUnavailable, match=r"no room to prepare the write in .*gone"):
        warehouse.put(a_document(f"{i}", "x" * 10_000_000) for i in range(3))
    assert warehouse.count() == 0


@pytest.mark.parametrize("place", ["file/warehouse.db", "folder"])
def test_a_place_where_no_file_can_be_is_named(tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnavailable, match=place):
        open_sqlite(tmp_path / place)


def test_two_ids_for_one_link_are_refused_by_the_index(stores, path):
    """Cannot happen through `put`, where the link makes the id; the index is there for whatever else writes."""
    warehouse, _ = stores
    warehouse.put([a_document("a"), a_document("b")])
    with pytest.raises(sqlite3.IntegrityError, match="link"), sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET link='https://example.com/a'")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET link='https://example.com/c' WHERE id=?", (a_document("b").id,))
    with pytest.raises(LinkConflict, match="Nothing was written"):
        warehouse.put([a_document("d"), a_document("c")])
    assert warehouse.count() == 2


# --- MongoDB ------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_named_without_its_password():
    port = free_port()
    with pytest.raises(StoreUnavailable, match=rf"mongodb://127\.0\.0\.1:{port}/twin cannot be reached") as caught:
        open_mongo(f"mongodb://ann:{PASSWORD}@127.0.0.1:{port}/twin?serverSelectionTimeoutMS=300")
    assert PASSWORD not in str(caught.value)
    assert "is the server running" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://ann:{PASSWORD}@@host/twin",
        f"mongodb://ann:{PASSWORD}/x@host:port/twin",
        f"mongodb://ann:{PASSWORD}@host/a b$c",
        f"mongodb://ann:{PASSWORD}@",
    ],
)
def test_an_unusable_address_is_refused_without_its_password(url):
    with pytest.raises(ConfigError, match="percent-encoded") as caught:
        open_mongo(url)
    assert PASSWORD not in str(caught.value)


@pytest.fixture
def new_mongo_server(tmp_path):
    """Starts servers of its own, on a given folder and port; whatever still runs is ended."""
    servers = []

    def start(*options, port=None, folder="data"):
        port = port or free_port()
        servers.append(start_mongo_server(tmp_path / folder, port, *options))
        return servers[-1], port

    yield start
    for server in servers:
        server.kill()
        server.wait()


def test_a_standalone_server_is_refused_with_the_way_to_mend_it(new_mongo_server):
    _, port = new_mongo_server("--standalone")
    with pytest.raises(StoreUnavailable, match=r"standalone server.*replica set.*rs.initiate"):
        open_mongo(f"mongodb://127.0.0.1:{port}/twin")


def test_a_refused_user_is_told_what_to_check(new_mongo_server):
    _, port = new_mongo_server()
    url = f"mongodb://ann:{PASSWORD}@127.0.0.1:{port}/twin?authSource=admin"
    with pytest.raises(StoreUnavailable, match=r"does not let this user in.*authSource") as caught:
        open_mongo(url)
    assert PASSWORD not in str(caught.value)


def test_a_server_that_dies_is_reported_and_after_its_restart_all_is_there(new_mongo_server):
    server, port = new_mongo_server()
    warehouse, ledger = open_mongo(f"mongodb://127.0.0.1:{port}/twin?serverSelectionTimeoutMS=500")
    warehouse.put([a_document("a")])
    ledger.record([an_entry()])
    token = [change.token for change in warehouse.changes(None)][-1]
    server.terminate()
    server.wait()
    for use in (
        lambda: warehouse.put([a_document("b")]),
        lambda: warehouse.get(a_document("a").id),
        lambda: list(warehouse.changes(token)),
        lambda: ledger.record([an_entry("b")]),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            use()
    new_mongo_server(port=port)
    again, ledger = open_mongo(f"mongodb://127.0.0.1:{port}/twin?serverSelectionTimeoutMS=5000")
    assert list(again.ids()) == [a_document("a").id]
    assert [entry.link for entry in ledger.entries()] == [an_entry().link]
    assert again.put([a_document("b")]).inserted == 1
    assert a_document("b").id in {change.document_id for change in again.changes(token)}
    warehouse.close()
    again.close()


def test_a_server_that_hangs_holds_nobody_for_ever(new_mongo_server):
    server, port = new_mongo_server()
    address = f"mongodb://127.0.0.1:{port}/twin"
    patient, _ = open_mongo(address)
    assert patient._database._client.options.pool_options.socket_timeout == 120
    patient.close()
    hurried, _ = open_mongo(f"{address}?socketTimeoutMS=2000")
    server.send_signal(signal.SIGSTOP)
    os.waitpid(server.pid, os.WUNTRACED)  # it has stopped
    try:
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port}/twin cannot be reached"):
            hurried.count()
    finally:
        server.send_signal(signal.SIGCONT)
    hurried.close()


def test_a_feed_that_no_longer_reaches_back_asks_for_everything_again(new_mongo_server):
    _, port = new_mongo_server("--oplog-max-entries", "20")
    warehouse, _ = open_mongo(f"mongodb://127.0.0.1:{port}/twin")
    warehouse.put([a_document("a")])
    token = [change.token for change in warehouse.changes(None)][-1]
    for half in (0, 1):  # the server looks at its log every thousand entries
        warehouse.put(a_document(f"{half} {i}") for i in range(600))
    with pytest.raises(TokenExpired, match="no longer reaches back"):
        list(warehouse.changes(token))
    assert next(warehouse.changes(None)).document  # everything can be read again
    warehouse.close()


@pytest.fixture
def mongo(mongo_url):
    warehouse, _ = open_mongo(mongo_url)
    yield warehouse
    warehouse.close()


def test_a_document_too_large_for_mongodb_is_refused_and_nothing_is_written(mongo):
    body = b64encode(os.urandom(18_000_000)).decode()
    with pytest.raises(StoreUnavailable, match=r"https://example\.com/big: .*at most 16.*fetch\.max_bytes"):
        mongo.put([a_document("small"), a_document("big", body)])
    assert mongo.count() == 0


def test_a_damaged_document_in_mongodb_is_named(mongo):
    mongo.put([a_document()])
    mongo._documents.update_one({"_id": a_document().id}, {"$set": {"payload": b"half"}})
    with pytest.raises(StoreCorrupt, match=f"document {a_document().id} cannot be read"):
        mongo.get(a_document().id)


def test_a_document_that_somebody_rewrote_in_mongodb_is_not_what_was_stored_and_is_mended_by_reading_it_again(mongo):
    mongo.put([a_document()])
    stored = mongo._documents.find_one({"_id": a_document().id})
    rewritten = zlib.decompress(stored["payload"]).replace(b'"text"', b'"test"')
    bare = rewritten[: -rows.SEAL]
    for payload in (rewritten, bare, rows._sealed(bare)):
        mongo._documents.update_one({"_id": a_document().id}, {"$set": {"payload": zlib.compress(payload)}})
        with pytest.raises(StoreCorrupt, match=f"document {a_document().id} "):
            mongo.get(a_document().id)
    assert mongo.put([a_document()]).updated == 1
    assert mongo.get(a_document().id).body == "text"


def test_a_damaged_document_does_not_keep_the_others_from_mongodbs_change_feed(mongo):
    mongo.put([a_document("a")])
    token = [change.token for change in mongo.changes(None)][-1]
    mongo.put([a_document("b"), a_document("c")])
    mongo._documents.update_one({"_id": a_document("b").id}, {"$set": {"payload": b"half"}})
    for since in (None, token):
        changes = {change.document_id: change for change in mongo.changes(since)}
        assert changes[a_document("c").id].document == mongo.get(a_document("c").id)
        assert changes[a_document("b").id].document is None
        assert "cannot be read" in str(changes[a_document("b").id].error)


def test_a_newer_programs_collections_are_refused(mongo, mongo_url):
    mongo._database._database["about"].update_one({"_id": "warehouse"}, {"$set": {"schema": 99}})
    with pytest.raises(StoreUnavailable, match=r"newer version of this program .schema 99"):
        open_mongo(mongo_url)


def test_two_ids_for_one_link_are_refused_by_mongodbs_index(mongo):
    mongo.put([a_document("b")])
    mongo._documents.update_one({"_id": a_document("b").id}, {"$set": {"link": "https://example.com/c"}})
    with pytest.raises(LinkConflict, match="Nothing was written"):
        mongo.put([a_document("d"), a_document("c")])
    assert mongo.count() == 1
