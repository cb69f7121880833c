"""What only the SQLite warehouse promises: what is on the disk, and what survives a kill."""

import gc
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stores import a_document, an_entry

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

ANN = Author(name="Ann").id
ANN_HERSELF = DataSubject(name="Ann")
SECRET = "the author wants this sentence gone"

# Puts batches of ten for ever, and says so after each.
WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stores import a_document
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
warehouse, _ = open_sqlite(Path(sys.argv[1]))
for batch in range(100_000):
    warehouse.put([a_document(f"{batch}-{i}", "x" * 2000) for i in range(10)] + [a_document("count", str(batch))])
    print(batch, flush=True)
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "new folder" / "warehouse.db"


@pytest.fixture
def stores(path):
    warehouse, ledger = open_sqlite(path, timeout=0.2)
    yield warehouse, ledger
    warehouse.close()


def on_disk(path: Path, text: str) -> list[str]:
    return [file.name for file in path.parent.iterdir() if text.encode() in file.read_bytes()]


def test_an_unchanged_put_writes_nothing_to_the_file(stores, path):
    warehouse, _ = stores
    warehouse.put([a_document("a"), a_document("b")])
    before = [(file.name, file.read_bytes()) for file in sorted(path.parent.iterdir()) if "-shm" not in file.name]
    warehouse.put([a_document("a"), a_document("b")])
    assert before == [
        (file.name, file.read_bytes()) for file in sorted(path.parent.iterdir()) if "-shm" not in file.name
    ]


def test_no_body_remains_on_disk_after_an_author_is_erased(stores, path):
    warehouse, ledger = stores
    warehouse.put([a_document("a", SECRET * 500, title=SECRET), a_document("b", author="Bob")])
    warehouse.put([a_document("a", "a second revision")])
    ledger.record([an_entry(f"a/{SECRET}")])
    ledger.begin(ANN, SECRET)
    assert on_disk(path, SECRET)
    assert (warehouse.erase(ANN_HERSELF), ledger.erase(ANN_HERSELF)) == (Erased(1), Erased(1))
    assert on_disk(path, SECRET) == on_disk(path, "a second revision") == []
    assert on_disk(path, "https://example.com/b")


def test_erasing_under_a_reader_of_an_older_state_says_so_and_can_be_repeated(stores, path):
    warehouse, _ = stores
    warehouse.put([a_document("a", SECRET)])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM documents").fetchone()
    with pytest.raises(StoreLocked, match="run the same command again"):
        warehouse.erase(ANN_HERSELF)
    assert warehouse.count() == 0
    reader.close()
    assert warehouse.erase(ANN_HERSELF) == Erased(0)
    assert on_disk(path, SECRET) == []


def test_erasing_leaves_no_free_page(stores, path):
    warehouse, ledger = stores
    ledger.record(an_entry(f"{i:03}/{SECRET}", author="Ann" if i % 3 else "Bob", detail="x" * i) for i in range(300))
    warehouse.put(a_document(f"{i}", SECRET + "x" * i * 7, author="Ann" if i % 3 else "Bob") for i in range(300))
    for name in ("Ann", "Bob"):
        warehouse.erase(DataSubject(name=name))
        ledger.erase(DataSubject(name=name))
    assert on_disk(path, SECRET) == []
    [(free,)] = sqlite3.connect(path).execute("PRAGMA freelist_count").fetchall()
    assert free == 0


@pytest.mark.parametrize("batches", [1, 7, 23])
def test_a_killed_writer_loses_nothing_it_acknowledged_and_leaves_no_half_batch(path, batches):
    here = Path(__file__).resolve().parent.parent
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path, here], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    acknowledged = [int(writer.stdout.readline()) for _ in range(batches)][-1]
    writer.kill()
    writer.wait()
    acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    warehouse, _ = open_sqlite(path)
    counted = warehouse.get(a_document("count").id)
    assert counted
    last = int(counted.body)
    assert last in (acknowledged, acknowledged + 1)
    assert warehouse.count() == (last + 1) * 10 + 1
    assert {change.document_id for change in warehouse.changes(None)} == set(warehouse.ids())
    warehouse.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_many_may_open_a_new_file_at_once(path):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_sqlite(path), range(8)))
    for i, (warehouse, _) in enumerate(opened):
        warehouse.put([a_document(f"{i}")])
    assert [warehouse.count() for warehouse, _ in opened] == [8] * 8
    for warehouse, _ in opened:
        warehouse.close()


def test_a_finished_thread_leaves_no_open_connection(stores):
    warehouse, _ = stores
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: warehouse.put([a_document(f"{i}")]), range(8)))
    gc.collect()
    assert len(warehouse._file._all) == 1
