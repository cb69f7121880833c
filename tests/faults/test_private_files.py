"""What the platform writes is its owner's alone, whatever the umask, and what earlier versions wrote becomes so."""

import os
import stat
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner
from feature_build import document
from loguru import logger
from stores import an_entry

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.answers import Feedback
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.files import make_folder, make_private, write_whole
from llm_engineering.infrastructure.json_lines import append_lines, lock_file
from llm_engineering.infrastructure.sandbox import InProcess
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from llm_engineering.settings import Settings
from tools.erasure import begin, identify
from tools.feedback import feedback
from tools.warehouse import warehouse


@pytest.fixture(autouse=True, params=[0o000, 0o022, 0o777], ids=lambda mask: f"umask {mask:03o}")
def _umask(request: pytest.FixtureRequest) -> Generator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Of everything in it that others may read, write or look into, or that its owner may not use."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if not path.is_symlink() and mode != (0o700 if path.is_dir() else 0o600):
            found[str(path.relative_to(folder))] = f"{mode:03o}"
    return found


def live(platform: Platform) -> None:
    """Write everything that holds texts or names."""
    platform.warehouse.put([document("a", "Some words of Ada's.")])
    platform.ledger.record([an_entry("a", author="Ada")])
    build_features(
        warehouse=platform.warehouse,
        ledger=platform.ledger,
        embedder=platform.embedder,
        vectors=platform.vectors,
        sandbox=InProcess(),
        config=FeatureConfig(),
    )
    platform.tracer.start("ask", question="what?").finish(answer="so")
    platform.feedback.add(Feedback(trace_id="x", thumbs_up=True, question="what?", answer="so"))
    begin(platform, identify(platform, "Ada"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:32")
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "deep" / "home"))
    return tmp_path / "deep"


def test_everything_in_a_new_home(home):
    with open_platform() as platform:
        live(platform)
        names = {path.name for path in home.rglob("*")}
        assert {"warehouse.db", "warehouse.db-wal", "warehouse.db-shm", "feedback.jsonl", "CURRENT"} <= names
        assert modes(home) == {}
    assert modes(home) == {}


def test_what_is_written_elsewhere(home):
    with open_platform() as platform:
        live(platform)
    out = home.parent / "out"
    done = CliRunner().invoke(warehouse, ["export", str(out / "backups" / "x.jsonl.gz")])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(feedback, ["export", str(out / "candidates.jsonl")]).exit_code == 0
    assert modes(out) == {}


def test_what_earlier_versions_left_open_is_closed_and_that_is_said_once(home):
    with open_platform() as platform:
        live(platform)
    for path in (home / "home", *(home / "home").rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (home / "home" / "somebody's own.txt").touch()
    (home / "home" / "somebody's own.txt").chmod(0o644)
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    try:
        for _ in range(2):
            with open_platform():
                pass
    finally:
        logger.remove(sink)
    assert len([line for line in said if "could be read by other users" in line]) == 1
    left = modes(home / "home")
    assert set(left) == {"somebody's own.txt"}


def test_a_home_in_which_people_work_stays_open(home, monkeypatch, tmp_path):
    make_folder(home / "home")
    (home / "home").chmod(0o755)
    (home / "home" / "work").mkdir()
    (home / "home" / "work").chmod(0o755)
    monkeypatch.chdir(home / "home" / "work")
    with open_platform() as platform:
        live(platform)
    assert set(modes(home / "home")) == {".", "work"}


def test_a_link_in_the_home_leads_to_nothing_that_is_changed(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    for one, mode in ((other, 0o755), (other / "file", 0o644)):
        one.chmod(mode)
    make_folder(home / "home")
    (home / "home" / "traces").symlink_to(other)
    with open_platform():
        pass
    assert (stat.S_IMODE(other.stat().st_mode), stat.S_IMODE((other / "file").stat().st_mode)) == (0o755, 0o644)


def test_each_writer_by_itself(tmp_path):
    place = tmp_path / "by" / "itself"
    write_whole(place / "one" / "whole.json", "{}")
    make_folder(place / "two" / "deep")
    append_lines(place / "two" / "lines.jsonl", b"{}\n", lock=lock_file(place / "two" / ".lock"))
    stored, _ = open_sqlite(place / "three" / "warehouse.db")
    stored.put([document("a", "x")])
    assert modes(tmp_path / "by") == {}
    stored.close()


def test_what_is_not_there_or_not_to_be_changed_is_left(tmp_path):
    assert make_private(tmp_path / "nothing") == 0
    assert Settings(home=tmp_path).home == tmp_path
