"""Whatever a call does, it comes back within its budget, and the next one finds a child that works."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import until

from llm_engineering.domain.errors import OverBudget, SourceError, raised_at
from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.sandbox import InProcess, ProcessSandbox


def small(*, seconds: float = 0.5, seconds_per_megabyte: float = 0.0) -> ProcessSandbox:
    return ProcessSandbox(
        processes=1, seconds=seconds, seconds_per_megabyte=seconds_per_megabyte, memory_bytes=600_000_000
    )


@pytest.fixture
def sandbox():
    made = small()
    yield made
    made.close()


# What children are told to do: functions of this module, which a child imports.


def spin() -> None:
    while True:
        pass


def spin_in_c() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def sleep_for_ever() -> None:
    while True:
        time.sleep(60)


def swell() -> int:
    return len(bytearray(1_000_000_000))


def answer_with_too_much() -> list[bytes]:
    return [bytes([number % 256]) * (1 << 20) for number in range(400)]


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "well"


def refuse() -> None:
    raise SourceError("https://a.example", Reason.EMPTY, "nothing", retry=False)


class Unpicklable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def raise_unpicklable() -> None:
    raise Unpicklable("left", "right")


def environment() -> dict[str, str]:
    return dict(os.environ)


def pid_of_child() -> int:
    return os.getpid()


def test_a_result_comes_back_and_a_childs_work_is_not_ours(sandbox):
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)
    assert sandbox.submit(pid_of_child).result() != os.getpid()
    assert InProcess().submit(pid_of_child).result() == os.getpid()


@pytest.mark.parametrize("function", [spin, spin_in_c])
def test_what_never_ends_is_killed_wherever_it_is_and_the_next_call_works(sandbox, function):
    with pytest.raises(OverBudget, match=r"more than 0\.5 s of a processor") as caught:
        sandbox.submit(function).result()
    assert caught.value.place
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)


def test_what_waits_instead_of_working_is_killed_too(monkeypatch, sandbox):
    monkeypatch.setattr("llm_engineering.infrastructure.sandbox.WALL", 1.0)
    with pytest.raises(OverBudget, match=r"was not done after 0\.5 s"):
        sandbox.submit(sleep_for_ever).result()
    monkeypatch.undo()
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)


def test_a_larger_item_has_more_time():
    sandbox = small(seconds_per_megabyte=4.0)
    with pytest.raises(OverBudget, match=r"more than 2\.5 s of a processor"):
        sandbox.submit(spin, size=500_000).result()
    sandbox.close()


@pytest.mark.parametrize("function", [swell, answer_with_too_much])
def test_what_takes_too_much_memory_is_told_so(function):
    sandbox = small(seconds=60)
    with pytest.raises(OverBudget, match="more than 600 MB of memory"):
        sandbox.submit(function).result()
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)
    sandbox.close()


def test_a_child_that_crashes_is_started_again_and_its_call_once_more(sandbox, tmp_path):
    assert sandbox.submit(crash_once, tmp_path / "crashed").result() == "well"
    with pytest.raises(OverBudget, match="died twice, the last time of SIGSEGV"):
        sandbox.submit(crash).result()
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)


def test_a_child_that_is_killed_while_idle_costs_no_call(sandbox):
    os.kill(sandbox.submit(pid_of_child).result(), signal.SIGKILL)
    assert [sandbox.submit(divmod, 7, 2).result() for _ in range(3)] == [(3, 1)] * 3


def test_what_a_call_raises_is_raised_here_and_says_where_it_was(sandbox):
    with pytest.raises(SourceError) as caught:
        sandbox.submit(refuse).result()
    assert (caught.value.link, caught.value.reason) == ("https://a.example", Reason.EMPTY)
    with pytest.raises(RuntimeError, match="Unpicklable: left right") as strange:
        sandbox.submit(raise_unpicklable).result()
    assert "test_sandbox" in raised_at(strange.value)
    with pytest.raises(Exception, match="pickle"):
        sandbox.submit(lambda: 1).result()
    assert sandbox.submit(divmod, 7, 2).result() == (3, 1)


def test_many_threads_share_the_children(sandbox):
    futures = [sandbox.submit(divmod, number, 7) for number in range(200)]
    assert [future.result() for future in futures] == [divmod(number, 7) for number in range(200)]


def test_a_child_inherits_no_password(monkeypatch, sandbox):
    monkeypatch.setenv("TWIN_LINKEDIN_PASSWORD", "hunter2")
    assert "hunter2" not in str(sandbox.submit(environment).result())


def test_closing_ends_what_runs(sandbox):
    child = sandbox.submit(pid_of_child).result()
    running = sandbox.submit(sleep_for_ever)
    until(running.running)
    closing = threading.Thread(target=sandbox.close)
    closing.start()
    with pytest.raises(OverBudget, match="not done when the run ended"):
        running.result()
    closing.join()
    assert not alive(child)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_survives_its_parent(number):
    program = (
        "import test_sandbox as t\n"
        "sandbox = t.ProcessSandbox(processes=2, seconds=60, seconds_per_megabyte=0, memory_bytes=600_000_000)\n"
        "print(sandbox.submit(t.pid_of_child).result(), flush=True)\n"
        "sandbox.submit(t.spin); sandbox.submit(t.spin_in_c); sandbox.submit(t.spin).result()\n"
    )
    tests = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(Path(__file__).parent), str(tests), str(tests / "tests")])
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(child))


def alive(pid: int) -> bool:
    """A process that ended and waits for its parent does not live."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_a_script_without_a_main_guard_is_not_run_again_in_the_children(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from llm_engineering.infrastructure.sandbox import ProcessSandbox\n"
        "print('begun', flush=True)\n"
        "sandbox = ProcessSandbox(processes=1, seconds=60, seconds_per_megabyte=0, memory_bytes=600_000_000)\n"
        "print(sandbox.submit(divmod, 7, 2).result(), flush=True)\n"
        "sandbox.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["begun", "(3, 1)"]
    assert done.stderr == ""
