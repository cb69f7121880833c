"""A disk that is full is called full by whoever meets it; a home that cannot be written can still be asked."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from feature_build import document
from loguru import logger
from stores import a_document, an_entry

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.feedback import JsonlFeedback
from llm_engineering.infrastructure.sandbox import InProcess
from llm_engineering.infrastructure.tracing import JsonlTracer
from llm_engineering.infrastructure.vectors import index_versions
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from llm_engineering.infrastructure.warehouse.transfer import export_warehouse
from tools.ask import main as ask
from tools.crawl_status import crawl_status
from tools.doctor import doctor
from tools.feedback import feedback
from tools.forget import forget
from tools.traces import traces
from tools.warehouse import warehouse


@contextmanager
def mounted(place: Path, *how: object) -> Generator[Path]:
    """Skips the test where nothing may be mounted."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *map(str, how), place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """Of three megabytes."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=3m", "tmpfs") as place:
        yield place


def fill(place: Path) -> None:
    with (place / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(os.urandom(4096))


# --- full -----------------------------------------------------------------------------------------------------


def test_a_full_disk_under_the_warehouse_and_the_ledger(small_disk):
    stored, ledger = open_sqlite(small_disk / "warehouse.db")
    stored.put([a_document("a")])
    with pytest.raises(StoreUnavailable, match=r"warehouse\.db: the disk is full; free some space"):
        stored.put(a_document(f"{i}", os.urandom(50_000).hex()) for i in range(60))
    fill(small_disk)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        ledger.record(an_entry(f"{i}", detail="x" * 3000) for i in range(2000))
    assert (list(stored.ids()), list(ledger.entries())) == ([a_document("a").id], [])
    (small_disk / "ballast").unlink()
    assert stored.put([a_document("b")]).inserted == 1
    stored.close()


def test_a_warehouse_cannot_be_made_on_a_full_disk(small_disk):
    fill(small_disk)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        open_sqlite(small_disk / "warehouse.db")


def test_a_full_disk_under_an_export_and_the_old_one_stays(small_disk, tmp_path):
    stored, ledger = open_sqlite(tmp_path / "warehouse.db")
    stored.put(a_document(f"{i}", os.urandom(30_000).hex()) for i in range(100))
    (small_disk / "x.jsonl").write_text("the old one")
    with pytest.raises(StoreUnavailable, match=r"x\.jsonl cannot be written \(the disk is full"):
        export_warehouse(stored, ledger, small_disk / "x.jsonl")
    assert [path.name for path in small_disk.iterdir()] == ["x.jsonl"]
    assert (small_disk / "x.jsonl").read_text() == "the old one"
    stored.close()


def test_a_full_disk_under_feedback_traces_and_what_is_made_of_them(small_disk, monkeypatch):
    monkeypatch.setenv("TWIN_HOME", str(small_disk))
    book, tracer = JsonlFeedback(small_disk / "feedback.jsonl"), JsonlTracer(small_disk / "traces")
    book.add(Feedback(trace_id="x", thumbs_up=True, question="what?", answer="so"))
    fill(small_disk)
    with pytest.raises(StoreUnavailable, match=r"feedback\.jsonl cannot be written \(the disk is full"):
        book.add(Feedback(trace_id="x", thumbs_up=True, question="what? " * 700, answer="so" * 2000))
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    tracer.start("ask").finish(text="x" * 5000)
    tracer.close()
    logger.remove(sink)
    assert any("traces are being lost" in line and "the disk is full" in line for line in said)
    done = CliRunner().invoke(feedback, ["export", str(small_disk / "candidates.jsonl")])
    assert (done.exit_code, "candidates.jsonl cannot be written: the disk is full" in done.output) == (1, True)


WRITES: dict[str, Callable[[Path], object]] = {
    "manifest": lambda folder: index_versions.write_manifest(folder, index_versions.Manifest.model_construct()),
    "export": lambda folder: export_warehouse(*open_sqlite(folder / "warehouse.db"), folder / "x.jsonl"),
    "feedback": lambda folder: JsonlFeedback(folder / "f.jsonl").add(Feedback(trace_id="x", thumbs_up=True)),
}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_wherever_the_system_says_so(tmp_path, monkeypatch, what, code):
    """Also where nothing can be mounted: the flush finds no room."""

    def no_room(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        WRITES[what](tmp_path)
    assert not list(tmp_path.rglob("*.part"))


# --- read-only --------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """With documents, an index, a trace and feedback, on a disk that is mounted read-only."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "home"))
    with open_platform() as platform:
        platform.warehouse.put([document("a", "Flour, water and salt make bread.", title="Baking")])
        platform.ledger.record([an_entry("a", author="Ada")])
        build_features(
            warehouse=platform.warehouse,
            ledger=platform.ledger,
            embedder=platform.embedder,
            vectors=platform.vectors,
            sandbox=InProcess(),
            config=FeatureConfig(),
        )
        platform.feedback.add(Feedback(trace_id="x", thumbs_up=True, question="what?", answer="so"))
    with mounted(tmp_path / "ro", "--bind", tmp_path / "home") as place:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        monkeypatch.setenv("TWIN_HOME", str(place))
        yield place


def run(command, *arguments: str):
    return CliRunner(env={"COLUMNS": "300"}).invoke(command, list(arguments))


def test_a_read_only_home_is_asked(read_only_home, tmp_path):
    (tmp_path / "ask.yaml").write_text("retrieval: {min_relevance: 0.0, rerank: none}\n")
    asked = run(ask, "What makes bread?", "--config", str(tmp_path / "ask.yaml"))
    assert asked.exit_code == 0, asked.output
    assert "Flour, water and salt make bread." in asked.output
    assert "Baking" in run(ask, "What makes bread?", "--passages").output


def test_a_read_only_home_says_what_there_is(read_only_home, tmp_path):
    status = run(crawl_status)
    assert (status.exit_code, "Ada" in status.output) == (0, True)
    assert (run(traces).exit_code, run(feedback, "list").exit_code) == (0, 0)
    assert run(warehouse, "export", str(tmp_path / "x.jsonl")).exit_code == 0
    found = run(doctor).output
    assert "cannot be written: it can be asked, and nothing can be run" in found
    assert "1 documents" in found
    assert "no run can write the index" in found
    assert "the index holds what the warehouse holds" in found


def test_what_wants_to_write_into_a_read_only_home_says_that_it_cannot(read_only_home):
    with open_platform() as platform:
        for write in (
            lambda: platform.warehouse.put([document("b", "x")]),
            lambda: platform.ledger.record([an_entry("b")]),
        ):
            with pytest.raises(StoreUnavailable, match=r"warehouse\.db can only be read.*Nothing was written"):
                write()
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            platform.feedback.add(Feedback(trace_id="y", thumbs_up=True))
        with pytest.raises(StoreUnavailable, match=r"vectors.* cannot be written"):
            platform.vectors.erase("x")
    refused = run(forget, "--author", "Ada", "--yes")
    assert (refused.exit_code, "nothing was erased" in refused.output) == (1, True)


def test_what_a_killed_run_left_in_the_log_is_read_in_a_read_only_home_too(tmp_path):
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stores import a_document
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
warehouse, _ = open_sqlite(Path(sys.argv[1]))
warehouse.put([a_document("a")])
os.kill(os.getpid(), signal.SIGKILL)
"""
    home, here = tmp_path / "home", Path(__file__).resolve().parent.parent
    home.mkdir()
    subprocess.run([sys.executable, "-c", script, home / "warehouse.db", here], timeout=60)
    assert (home / "warehouse.db-wal").stat().st_size > 0
    with mounted(tmp_path / "ro", "--bind", home) as place:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        stored, _ = open_sqlite(place / "warehouse.db")
        assert list(stored.ids()) == [a_document("a").id]
        stored.close()
