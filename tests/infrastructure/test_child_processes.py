"""No program outlives us, none knows our secrets, and no temporary folder stays, however we end."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
from loopback import Answer
from waiting import until

from llm_engineering.infrastructure import child_processes, temporary_folders
from llm_engineering.infrastructure.child_processes import ChildProcess, Limits, run_child
from llm_engineering.infrastructure.fetchers.chromium import find_browser
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder, remove_leftovers

ROOT = Path(__file__).parents[2]
SECRETS = ("TWIN_LINKEDIN_PASSWORD", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "GITHUB_TOKEN")
# Leaves processes of its own, in a group and in a session of their own, and says who they are.
FAMILY = ["sh", "-c", "setsid sleep 900 & sleep 901 & echo $$ $! > pids; ps -e >/dev/null; sleep 902"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- one child ---------------------------------------------------------------------------------------------------


def test_what_a_program_writes_and_how_it_ends_comes_back():
    assert run_child(["sh", "-c", "echo one; echo two >&2; exit 3"]) == (3, "one\n", "two\n")
    assert run_child(["sh", "-c", "kill -SEGV $$"]).code == -signal.SIGSEGV
    assert run_child(["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x"]).output == "x" * 100_000


def test_a_program_that_is_not_there_is_missed_at_once():
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_child(["no-such-program"])


def test_a_program_that_takes_too_long_is_ended_with_its_family(tmp_path):
    began = psutil.Process().children(recursive=True)
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(["sh", "-c", "setsid sleep 903 & sleep 904"], timeout=1)
    assert [one for one in psutil.Process().children(recursive=True) if one not in began] == []


def test_it_knows_what_it_needs_and_no_secret(monkeypatch, tmp_path):
    for name in (*SECRETS, "LD_PRELOAD_X", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "s3cret")
    folder = tmp_path / "home"
    folder.mkdir()
    with ChildProcess(["env"], folder=folder, stdout=subprocess.PIPE, environment={"MORE": "this"}) as child:
        seen = dict(line.split("=", 1) for line in child.communicate()[0].decode().splitlines() if "=" in line)
    assert "s3cret" not in seen.values()
    assert (seen["HOME"], seen["TMPDIR"], seen["PATH"]) == (str(folder), str(folder), os.environ["PATH"])
    assert (seen["LANG"], seen["MORE"]) == ("C.UTF-8", "this")
    assert set(seen) <= {*child_processes.KEPT, "HOME", "TMPDIR", "LANG", "MORE", "PWD", "SHLVL", "_", "LC_CTYPE"}


def test_a_library_that_starts_programs_itself_passes_on_no_secret(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("ZENML_DEBUG", "yes")
    before = dict(os.environ)
    with child_processes.only_minimal_environment(keep="ZENML_"):
        seen = subprocess.run(["env"], capture_output=True, text=True).stdout
    assert "s3cret" not in seen
    assert "ZENML_DEBUG=yes" in seen
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to it")
def test_each_process_keeps_to_its_limits(tmp_path):
    eats = [sys.executable, "-c", "x = bytearray(600_000_000); print(len(x))"]
    with ChildProcess(eats, limits=Limits(memory=300_000_000), stdout=subprocess.PIPE) as child:
        assert child.communicate()[0] == b""
    assert child.returncode != 0
    writes = ["sh", "-c", "exec head -c 2000000 /dev/zero > file"]
    with ChildProcess(writes, folder=tmp_path, limits=Limits(file_bytes=1_000_000)) as child:
        child.wait()
    assert (tmp_path / "file").stat().st_size <= 1_000_000
    with ChildProcess(["sh", "-c", "while :; do :; done"], limits=Limits(cpu_seconds=1)) as child:
        assert child.wait(60) in (-signal.SIGXCPU, -signal.SIGKILL)


def test_killing_it_ends_its_whole_family_from_any_thread(tmp_path):
    child = ChildProcess(FAMILY, folder=tmp_path)
    until(lambda: (tmp_path / "pids").exists() and len(descendants(child.pid)) >= 4)
    family = [psutil.Process(child.pid), *descendants(child.pid)]
    threads = [threading.Thread(target=child.kill) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not [one for one in family if alive(one)]
    assert child.returncode is not None


def test_it_lives_on_when_the_thread_that_started_it_ends(tmp_path):
    started = []
    thread = threading.Thread(target=lambda: started.append(ChildProcess(["sleep", "905"])))
    thread.start()
    thread.join()
    [child] = started
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.5)
    finally:
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="a death signal is Linux's")
def test_a_killed_supervisor_takes_its_program_with_it(tmp_path):
    child = ChildProcess(["sleep", "906"])
    [program] = until(lambda: [one for one in descendants(child.pid) if one.name() == "sleep"])
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not alive(program))
    child.kill()


STARTERS = re.compile(
    r"\bsubprocess\.(Popen|run|call|check_\w+)\(|\bos\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*)\("
)


def test_no_other_module_starts_programs():
    """What measures (tools/bench), and what the sandbox and multiprocessing start, is our code, with its own rules."""
    own = ("child_processes.py", "child_supervisor.py", "sandbox.py")
    files = [path for top in ("llm_engineering", "tools", "steps", "pipelines") for path in (ROOT / top).rglob("*.py")]
    starting = [path for path in files if STARTERS.search(path.read_text()) and path.parent.name != "bench"]
    assert [path.name for path in starting if path.name not in own] == []


# --- the end of the starter --------------------------------------------------------------------------------------

STARTS = """
import sys, time
from pathlib import Path
from llm_engineering.infrastructure.child_processes import ChildProcess
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
folder = TemporaryFolder("git")
child = ChildProcess(sys.argv[1:], folder=folder.path)
print(folder.path, flush=True)
time.sleep(600)
"""


def start(program: str, *words: object, place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def folder_of(starter: subprocess.Popen[str]) -> Path:
    assert starter.stdout is not None
    return Path(starter.stdout.readline().strip())


@pytest.fixture
def ended():
    """Kills what a test has started, at the latest after it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for one in started:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_whoever_ends_in_the_middle_leaves_neither_children_nor_the_folder(place, ended, number):
    starter = start(STARTS, *FAMILY, place=place)
    ended.append(starter)
    folder = folder_of(starter)
    until(lambda: (folder / "pids").exists() and len(descendants(starter.pid)) >= 5)
    family = descendants(starter.pid)
    starter.send_signal(number)
    starter.wait(60)
    until(lambda: not [one for one in family if alive(one)])
    until(lambda: not folder.exists())


CLONES = """
import sys
from llm_engineering.infrastructure.fetchers.git import GitRepositories
with GitRepositories(timeout=500, max_bytes=1_000_000, allow_hosts=("127.0.0.1",)).checkout(sys.argv[1]):
    pass
"""
BROWSES = """
import sys
from llm_engineering.infrastructure.fetchers.browser import SeleniumBrowser
SeleniumBrowser(allow_hosts=("127.0.0.1",), page_seconds=500).get(sys.argv[1])
"""
needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium with chromedriver on this machine")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("program", "name"),
    [(CLONES, "git"), pytest.param(BROWSES, "browser", marks=[needs_browser, pytest.mark.browser])],
    ids=["git", "browser"],
)
def test_a_fetcher_that_is_killed_leaves_nothing_once_another_has_started(site, place, ended, program, name, number):
    waiting, done = threading.Event(), threading.Event()

    def endless(request):
        if "git-upload-pack" in request.path and not request.headers.get("git-protocol"):
            return Answer(200, "asked by us, not by git")
        waiting.set()
        done.wait(120)
        return Answer(503)

    site.route("/x/info/refs", endless)
    site.route("/x", endless)
    fetcher = start(program, site.url("/x"), place=place)
    ended.append(fetcher)
    assert waiting.wait(90)
    family = descendants(fetcher.pid)
    assert len(family) > 1
    fetcher.send_signal(number)
    fetcher.wait(60)
    done.set()
    until(lambda: not [one for one in family if alive(one)])
    TemporaryFolder("view").remove()  # as the next run begins
    remove_leftovers()
    until(lambda: list(place.iterdir()) == [])


# --- temporary folders -------------------------------------------------------------------------------------------


def test_a_folder_is_there_for_its_block_and_no_longer(place):
    with TemporaryFolder("git") as folder:
        assert folder.parent == place
        assert folder.name.startswith("llm-twin-git-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert list(place.iterdir()) == []
    forgotten = TemporaryFolder("view")
    assert forgotten.path.is_dir()
    del forgotten
    assert list(place.iterdir()) == []


HOLDS = """
import time
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
folder = TemporaryFolder("view")
(folder.path / "file").write_text("x")
print(folder.path, flush=True)
time.sleep(600)
"""


def test_only_folders_of_the_dead_are_removed(place, ended):
    dead, living = (start(HOLDS, place=place) for _ in range(2))
    ended += [dead, living]
    left, held = folder_of(dead), folder_of(living)
    dead.kill()
    dead.wait()
    others = [place / name for name in ("llm-twin-data", "llm-twin-view-mine", "llm-twin-git-abcdefgh1", "x")]
    for one in others:
        one.mkdir()
        (one / "file").write_text("a user's own")
    remove_leftovers()
    assert not left.exists()
    assert (held / "file").read_text() == "x"
    assert all(one.exists() for one in others)


def test_a_folder_without_a_lock_is_a_leftover_when_it_is_old(place):
    fresh, old = place / "llm-twin-git-abcdefgh", place / "llm-twin-git-ijklmnop"
    for one in (fresh, old):
        one.mkdir()
    os.utime(old, (0, 0))
    remove_leftovers()
    assert (fresh.exists(), old.exists()) == (True, False)


def test_a_link_in_place_of_a_folder_is_not_followed(place, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / temporary_folders.LOCK).touch()
    (place / "llm-twin-git-abcdefgh").symlink_to(precious)
    inside = place / "llm-twin-git-ijklmnop"
    inside.mkdir()
    (inside / temporary_folders.LOCK).symlink_to(precious / temporary_folders.LOCK)
    remove_leftovers()
    assert (precious / temporary_folders.LOCK).exists()


def test_many_who_make_and_remove_at_once_take_nothing_from_each_other(place):
    lost = []

    def make_and_look():
        for _ in range(40):
            remove_leftovers()
            with TemporaryFolder("git") as folder:
                (folder / "file").write_text("x")
                remove_leftovers()
                if not (folder / "file").exists():
                    lost.append(folder)

    threads = [threading.Thread(target=make_and_look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert lost == []
    assert list(place.iterdir()) == []


def test_a_fork_of_the_process_takes_no_folder_with_it(place):
    held = TemporaryFolder("git")
    pid = os.fork()
    if pid == 0:
        held.remove()
        os._exit(0)
    os.waitpid(pid, 0)
    remove_leftovers()
    assert held.path.is_dir()
    held.remove()


def test_a_run_begins_by_removing_what_killed_ones_have_left(place):
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.features.config import EtlConfig

    left = place / "llm-twin-git-abcdefgh"
    left.mkdir()
    (left / temporary_folders.LOCK).touch()
    config = EtlConfig.model_validate({"authors": [{"name": "Ann", "links": ["http://a.example/"]}]})
    with open_platform() as platform, platform.fetch_context(config):
        assert not left.exists()
