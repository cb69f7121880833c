"""A run that is told to stop stops: in order, or when it does not, all the same; and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
STUCK = """
import subprocess, sys, threading
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
from tools import stopping
stopping.GRACE = float(sys.argv[1])
folder = TemporaryFolder("git")
child = subprocess.Popen([sys.executable, "-c", "while 1: pass"])
with stopping.stop_on_signals() as stopped:
    print(child.pid, flush=True)
    while not (stopped() and sys.argv[2] == "obeys"):
        pass
child.kill()
"""


@pytest.fixture
def stuck(tmp_path):
    """Starts a run that works until it is told to stop, or for ever."""
    started = []

    def start(grace: float, manner: str) -> tuple[subprocess.Popen[str], int]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", STUCK, str(grace), manner]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        started.append(process)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert list(tmp_path.glob("llm-twin-git-*"))
        return process, child

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_a_run_in_order(stuck, number):
    process, _ = stuck(600, "obeys")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 0
    assert "Stopping" in errors
    assert "ended now" not in errors


def test_a_run_that_does_not_come_to_its_end_is_ended_with_all_it_started(stuck, tmp_path):
    process, child = stuck(0.5, "never")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "run again to go on" in errors
    until(lambda: not Path(f"/proc/{child}").exists())
    assert not list(tmp_path.glob("llm-twin-*"))


def test_a_second_signal_ends_it_at_once(stuck, tmp_path):
    process, child = stuck(600, "never")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert "Stopping" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    until(lambda: not Path(f"/proc/{child}").exists())
    assert not list(tmp_path.glob("llm-twin-*"))
