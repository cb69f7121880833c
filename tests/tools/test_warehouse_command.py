"""`poe warehouse export|import`, as a person types it."""

import pytest
from click.testing import CliRunner
from stores import a_document, an_entry

from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from tools.warehouse import warehouse as command


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Opens the stores of one home, and makes it the configured one."""
    opened = []

    def home(name):
        path = tmp_path / name / "warehouse.db"
        monkeypatch.setenv("TWIN_WAREHOUSE", f"sqlite:///{path}")
        opened.append(open_sqlite(path))
        return opened[-1]

    yield home
    for stores, _ in opened:
        stores.close()


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_warehouse_moves_from_one_home_to_another(homes, tmp_path):
    first, ledger = homes("first")
    first.put([a_document("a"), a_document("b", author="Bob")])
    ledger.record([an_entry("a")])
    out = run("export", tmp_path / "out.jsonl.gz")
    assert out.exit_code == 0, out.output
    assert "documents" in out.output
    assert "sha256" in out.output
    second, other_ledger = homes("second")
    assert run("import", tmp_path / "out.jsonl.gz").exit_code == 0
    assert list(second.documents()) == list(first.documents())
    assert list(other_ledger.entries()) == list(ledger.entries())


def test_what_was_left_alone_is_said(homes, tmp_path):
    stores, _ = homes("one")
    stores.put([a_document("a")])
    run("export", tmp_path / "out.jsonl")
    stores.put([a_document("a", "newer")])
    done = run("import", tmp_path / "out.jsonl")
    assert done.exit_code == 0
    assert "1 are newer here than in the file" in done.output


def test_a_damaged_file_is_one_clear_line_and_exit_code_1(homes, tmp_path):
    stores, _ = homes("one")
    stores.put([a_document("a")])
    run("export", tmp_path / "out.jsonl")
    whole = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").write_bytes(whole.replace(b"text", b"TEXT", 1))
    done = run("import", tmp_path / "out.jsonl")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "checksum" in done.stderr
    assert "Traceback" not in done.output


def test_a_missing_file_is_one_clear_line(homes, tmp_path):
    homes("one")
    done = run("import", tmp_path / "no such.jsonl")
    assert done.exit_code == 2
    assert "there is no such file" in done.stderr


def test_exporting_before_the_first_crawl_says_so_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TWIN_WAREHOUSE", f"sqlite:///{tmp_path}/none/warehouse.db")
    done = run("export", tmp_path / "out.jsonl")
    assert done.exit_code == 2
    assert "poe run-etl" in done.stderr
    assert list(tmp_path.glob("none*")) == list(tmp_path.glob("out*")) == []
