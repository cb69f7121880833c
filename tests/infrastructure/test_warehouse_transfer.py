"""Export and import: exact, atomic, checked before anything is written."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stores import a_document, an_entry

from llm_engineering.domain.errors import ConfigError, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.ledger import Outcome, Reason
from llm_engineering.infrastructure.warehouse import transfer
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from llm_engineering.infrastructure.warehouse.transfer import check_export, export_warehouse, import_warehouse


def fill(warehouse, ledger):
    warehouse.put([a_document("a", "first"), a_document("b", "NUL \0, half \ud800, split \ud83d\ude00, 😀\u2028\r\n")])
    warehouse.put([a_document("a", "second", published_at=datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC))])
    warehouse.put([a_document("c", author="Bob", meta={"$a.b": [1, 2.5, None]}), a_document("gone")])
    warehouse.delete([a_document("gone").id])
    ledger.record([an_entry("a", etag='"x"'), an_entry("b", Outcome.DEAD, reason=Reason.PAYWALL, attempts=2)])


def everything(stores):
    warehouse, ledger = stores
    return list(warehouse.documents()), list(ledger.entries())


@pytest.fixture
def new_stores(tmp_path):
    opened = []

    def make():
        opened.append(open_sqlite(tmp_path / f"{len(opened)}" / "warehouse.db"))
        return opened[-1]

    yield make
    for warehouse, _ in opened:
        warehouse.close()


@pytest.fixture
def full(new_stores):
    stores = new_stores()
    fill(*stores)
    return stores


@pytest.fixture(params=["warehouse.jsonl", "warehouse.jsonl.gz"])
def path(request, tmp_path):
    return tmp_path / "backups" / request.param


@pytest.fixture
def plain(tmp_path):
    return tmp_path / "warehouse.jsonl"


def sealed(lines: list[dict], **manifest) -> bytes:
    """An export of these lines with a right checksum, so that only the rows are wrong."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    counts = {"documents": sum("document" in li for li in lines), "entries": sum("entry" in li for li in lines)}
    seal = {"manifest": {**counts, "sha256": hashlib.sha256(data).hexdigest(), **manifest}}
    return data + json.dumps(seal).encode() + b"\n"


# --- round trip ---------------------------------------------------------------------------------------------


def test_an_import_is_exactly_what_was_exported_on_every_store(open_stores, new_stores, path):
    stores = open_stores()
    fill(*stores)
    exported = export_warehouse(*stores, path)
    assert (exported.documents, exported.entries, exported.bytes) == (3, 2, path.stat().st_size)
    other = new_stores()
    imported = import_warehouse(*other, path)
    assert imported == ((3, 0, 0, 0), (2, 0, 0, 0))
    assert everything(other) == everything(stores)
    assert other[0].get(a_document("a").id).revision == 2


def test_an_export_can_be_imported_into_every_store(open_stores, full, path):
    export_warehouse(*full, path)
    stores = open_stores()
    import_warehouse(*stores, path)
    assert everything(stores) == everything(full)


def test_importing_twice_is_importing_once(full, new_stores, path):
    export_warehouse(*full, path)
    other = new_stores()
    import_warehouse(*other, path)
    before = everything(other), [change.token for change in other[0].changes(None)]
    assert import_warehouse(*other, path) == ((0, 0, 3, 0), (0, 0, 2, 0))
    assert (everything(other), [change.token for change in other[0].changes(None)]) == before


def test_an_export_of_the_import_is_the_same_file(full, new_stores, path, tmp_path):
    export_warehouse(*full, path)
    other = new_stores()
    import_warehouse(*other, path)
    export_warehouse(*other, tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_an_empty_warehouse_can_be_exported_and_imported(new_stores, path):
    export_warehouse(*new_stores(), path)
    assert import_warehouse(*new_stores(), path) == ((0, 0, 0, 0), (0, 0, 0, 0))


def test_more_rows_than_a_batch_are_all_carried(new_stores, plain):
    warehouse, ledger = new_stores()
    warehouse.put(a_document(f"{i}") for i in range(1203))
    ledger.record(an_entry(f"{i}") for i in range(1203))
    steps = []
    export_warehouse(warehouse, ledger, plain, progress=lambda: steps.append(1))
    other = new_stores()
    import_warehouse(*other, plain)
    assert everything(other) == everything((warehouse, ledger))
    assert len(steps) == 2406


def test_what_is_newer_here_is_left_alone_and_counted(full, new_stores, path):
    export_warehouse(*full, path)
    warehouse, ledger = new_stores()
    import_warehouse(warehouse, ledger, path)
    warehouse.put([a_document("a", "third")])
    later = an_entry("a", attempts=9, last_attempt=an_entry().last_attempt + timedelta(days=1))
    ledger.record([later])
    imported = import_warehouse(warehouse, ledger, path)
    assert imported == ((0, 0, 2, 1), (0, 0, 1, 1))
    assert warehouse.get(a_document("a").id).body == "third"
    assert ledger.entry(later.link) == later


def test_what_is_older_here_is_brought_up_to_date(new_stores, plain):
    warehouse, ledger = new_stores()
    warehouse.put([a_document("a", "old")])
    ledger.record([an_entry("a")])
    export_warehouse(warehouse, ledger, plain)
    other = new_stores()
    import_warehouse(*other, plain)
    warehouse.put([a_document("a", "new")])
    ledger.record([an_entry("a", last_attempt=an_entry().last_attempt + timedelta(days=1))])
    export_warehouse(warehouse, ledger, plain)
    assert import_warehouse(*other, plain) == ((0, 1, 0, 0), (0, 1, 0, 0))
    assert everything(other) == everything((warehouse, ledger))


def test_an_import_is_followed_by_the_change_feed(full, new_stores, plain):
    export_warehouse(*full, plain)
    warehouse, ledger = new_stores()
    import_warehouse(warehouse, ledger, plain)
    assert {change.document_id for change in warehouse.changes(None)} == set(full[0].ids())


# --- bad files: refused before anything is written ----------------------------------------------------------


def test_every_cut_off_file_is_refused_and_nothing_is_written(full, new_stores, path):
    export_warehouse(*full, path)
    whole = path.read_bytes()
    warehouse, ledger = new_stores()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises((StoreCorrupt, ConfigError), match=path.name):
            import_warehouse(warehouse, ledger, path)
    assert everything((warehouse, ledger)) == ([], [])


def test_every_flipped_byte_is_noticed_and_nothing_is_written(full, new_stores, path):
    export_warehouse(*full, path)
    whole = path.read_bytes()
    warehouse, ledger = new_stores()
    for place in range(11, len(whole), 61):  # a gzip header holds a few bytes that mean nothing
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((StoreCorrupt, ConfigError), match=path.name):
            import_warehouse(warehouse, ledger, path)
    assert everything((warehouse, ledger)) == ([], [])


def header():
    return {"format": "llm-twin warehouse", "version": 1}


def fields(**change) -> dict:
    return {**a_document().model_dump(mode="json"), **change}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([header(), {"document": fields()}, {"document": fields(surprise=1)}], "line 3: no document.*surprise"),
        ([header(), {"document": fields(kind="novel")}], "line 2: no document.*kind"),
        ([header(), {"document": fields()}, {"document": fields()}], "line 3: https://example.com/a was there before"),
        ([header(), {"picture": {}}], "line 2: no document and no ledger entry"),
        ([header(), {"entry": {"link": "x"}}], "line 2: no document and no ledger entry"),
        ([header(), ["document"]], "line 2 is no JSON object"),
    ],
)
def test_a_wrong_row_is_named_by_its_line_and_nothing_is_written(new_stores, plain, lines, message):
    plain.write_bytes(sealed(lines))
    warehouse, ledger = new_stores()
    with pytest.raises(StoreCorrupt, match=message):
        import_warehouse(warehouse, ledger, plain)
    assert everything((warehouse, ledger)) == ([], [])


def entry_fields(**change) -> dict:
    return {**an_entry().model_dump(mode="json"), **change}


ABSURD = [
    *[fields(revision=number) for number in (10**30, 2**63, 2**40, -1, 0, 1.5, "7", "x", True, None, [1], 1e308)],
    *[fields(updated_at=moment) for moment in ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00", "soon", 10**30, {})],
    fields(published_at="9999-12-31T23:59:59-14:00"),
    *[fields(link=link) for link in ("", "  ", "half \ud800", None, 7)],
    fields(author={"name": ""}),
    fields(author={"name": "\udfff"}),
    fields(encoding="rot13"),
    fields(body=None),
    fields(meta=["no mapping"]),
]
ABSURD_ENTRIES = [
    *[entry_fields(attempts=number) for number in (-1, 10**30, 1.5, "2", True)],
    *[entry_fields(documents=number) for number in (-1, 10**30, "2")],
    *[entry_fields(last_attempt=moment) for moment in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", None)],
    entry_fields(author_id="somebody else's"),
    entry_fields(outcome="eaten"),
    entry_fields(link=""),
]


@pytest.mark.parametrize("row", [{"document": one} for one in ABSURD] + [{"entry": one} for one in ABSURD_ENTRIES])
def test_an_absurd_value_is_named_by_its_line_and_nothing_is_written(open_stores, plain, row):
    plain.write_bytes(sealed([header(), {"document": fields(link="https://example.com/fine")}, row]))
    warehouse, ledger = open_stores()
    with pytest.raises(StoreCorrupt, match=r"warehouse\.jsonl, line 3: no document and no ledger entry \(") as caught:
        import_warehouse(warehouse, ledger, plain)
    assert len(str(caught.value)) < 400
    assert everything((warehouse, ledger)) == ([], [])


def test_a_line_without_end_and_brackets_without_end_are_refused(new_stores, plain, monkeypatch):
    for line in (b'{"document": ' + b"[" * 200_000, b'{"document": {"meta": ' + b'{"a":' * 200_000):
        plain.write_bytes(json.dumps(header()).encode() + b"\n" + line + b"\n")
        with pytest.raises(StoreCorrupt, match="line 2 is no JSON"):
            check_export(plain)
    monkeypatch.setattr(transfer, "LONGEST_LINE", 1000)
    plain.write_bytes(json.dumps(header()).encode() + b"\n" + b"x" * 2000)
    with pytest.raises(StoreCorrupt, match="line 2 has more than 1,000 bytes"):
        check_export(plain)


def test_an_export_of_before_warehouses_had_an_id_is_imported(new_stores, plain):
    plain.write_bytes(sealed([header(), {"document": fields()}]))
    warehouse, ledger = new_stores()
    before = warehouse.ref
    assert import_warehouse(warehouse, ledger, plain).documents.inserted == 1
    assert warehouse.ref == before


def test_a_document_that_was_damaged_here_is_mended_by_an_import(full, new_stores, plain):
    export_warehouse(*full, plain)
    warehouse, ledger = new_stores()
    import_warehouse(warehouse, ledger, plain)
    whole = warehouse.get(a_document("a").id)
    damage(warehouse, a_document("a").id)
    with pytest.raises(StoreCorrupt, match="poe warehouse import"):
        warehouse.get(a_document("a").id)
    assert import_warehouse(warehouse, ledger, plain).documents == (0, 1, 2, 0)
    assert warehouse.get(a_document("a").id) == whole


def damage(warehouse, document_id: str) -> None:
    with warehouse._file.writing() as connection:
        connection.execute(
            "UPDATE documents SET payload=replace(payload, 'second', 'sekond') WHERE id=?", (document_id,)
        )


def test_counts_that_do_not_agree_are_refused(new_stores, plain):
    plain.write_bytes(sealed([header(), {"document": fields()}], documents=2))
    with pytest.raises(StoreCorrupt, match="checksum or its counts differ"):
        import_warehouse(*new_stores(), plain)


def test_rows_after_the_manifest_are_refused(new_stores, plain):
    plain.write_bytes(sealed([header()]) + json.dumps({"document": fields()}).encode())
    with pytest.raises(StoreCorrupt, match="more after the manifest"):
        import_warehouse(*new_stores(), plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dear diary\n", "no export of a warehouse"),
        (b'{"a": 1}\n', "no export of a warehouse"),
        (b"\xff\xfe\x00\n", "no export of a warehouse"),
        (b'{"format": "llm-twin warehouse", "version": 2}\n', "another version"),
    ],
)
def test_another_kind_of_file_is_refused(plain, content, message):
    plain.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        check_export(plain)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.jsonl: there is no such file"):
        check_export(tmp_path / "missing.jsonl")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        check_export(tmp_path)


# --- an export is whole, or is not there --------------------------------------------------------------------


def test_an_export_that_fails_leaves_the_old_file_and_no_other(full, plain):
    warehouse, ledger = full
    export_warehouse(warehouse, ledger, plain)
    before = plain.read_bytes()
    steps = iter(range(2))

    def fail_at_the_third() -> None:
        next(steps)

    with pytest.raises(StopIteration):
        export_warehouse(warehouse, ledger, plain, progress=fail_at_the_third)
    assert plain.read_bytes() == before
    assert [one.name for one in plain.parent.iterdir() if one.name.startswith((".", "w"))] == [plain.name]


def test_a_killed_export_leaves_nothing_under_the_final_name(tmp_path):
    """The child is killed by itself in the middle, where no clean-up can run."""
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stores import a_document
from llm_engineering.infrastructure.warehouse import transfer
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from llm_engineering.infrastructure.warehouse.transfer import export_warehouse
folder = Path(sys.argv[1])
stores = open_sqlite(folder / "warehouse.db")
stores[0].put(a_document(str(i), "x" * 10_000) for i in range(50))
rows = iter(range(30))
export_warehouse(*stores, folder / "export.jsonl",
                 progress=lambda: next(rows, None) is None and os.kill(os.getpid(), signal.SIGKILL))
"""
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script, tmp_path, here], capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "export.jsonl").exists()
    warehouse, ledger = open_sqlite(tmp_path / "warehouse.db")
    assert export_warehouse(warehouse, ledger, tmp_path / "export.jsonl").documents == 50
    warehouse.close()


def test_a_place_that_cannot_be_written_is_named(full, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match=r"file/x\.jsonl cannot be written"):
        export_warehouse(*full, tmp_path / "file" / "x.jsonl")
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        export_warehouse(*full, tmp_path)


def test_a_full_disk_is_said_and_the_old_export_stays(new_stores, plain):
    import resource

    warehouse, ledger = new_stores()
    warehouse.put(a_document(f"{i}", os.urandom(5000).hex()) for i in range(100))
    plain.write_text("the old one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(StoreUnavailable, match=r"warehouse\.jsonl cannot be written"):
            export_warehouse(warehouse, ledger, plain)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert plain.read_text() == "the old one"


def test_the_compressed_file_is_ordinary_gzip(full, tmp_path):
    export_warehouse(*full, tmp_path / "x.jsonl.gz")
    export_warehouse(*full, tmp_path / "x.jsonl")
    assert gzip.decompress((tmp_path / "x.jsonl.gz").read_bytes()) == (tmp_path / "x.jsonl").read_bytes()
