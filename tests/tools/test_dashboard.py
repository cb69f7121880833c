"""The dashboard as its own process on a port of its own, as a person starts it."""

import json
import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner
from conftest import ROOT

from tools.dashboard import dashboard
from tools.orchestrator import prepare


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def typed(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.dashboard", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_the_dashboard_starts_past_its_survey_and_stops():
    port = free_port()
    started = typed("--no-open", "--port", port)
    try:
        assert started.returncode == 0, started.stderr
        address = started.stdout.split()[0]
        assert address == f"http://127.0.0.1:{port}/projects/default/runs"
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<title>" in page.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/info", timeout=60) as info:
            assert json.load(info)["version"].startswith("0.98")
    finally:
        stopped = typed("--stop")
    assert stopped.stdout.strip() == "stopped"
    prepare()
    from zenml.client import Client

    user = Client().zen_store.get_user(Client().active_user.id)  # as stored; the client remembers what it saw first
    assert user.user_metadata["finished_onboarding_survey"] is True
    assert user.email_opted_in is False
    # runs still go straight to the database: they do not depend on the dashboard
    assert Client().zen_store.type == "sql"


def test_stopping_what_does_not_run_says_so():
    assert CliRunner().invoke(dashboard, ["--stop"]).output == "none was running\n"


def test_a_port_that_is_taken_is_said_without_a_traceback():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = typed("--no-open", "--port", taken.getsockname()[1])
    assert refused.returncode == 1
    assert "not available" in refused.stderr
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr
