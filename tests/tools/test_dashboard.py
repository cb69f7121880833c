"""The dashboard as its own process on a port of its own, as a person starts it."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner
from conftest import ROOT

from tools.dashboard import dashboard
from tools.dashboard_server import is_own
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
        for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "http://localhost:1"}):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(urllib.request.Request(address, headers=wrong), timeout=60)
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


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ([("host", "127.0.0.1:8237")], True),
        ([("host", "LOCALHOST:8237")], True),
        ([("host", "[::1]:8237")], True),
        ([("host", "localhost")], True),
        ([("host", "127.0.0.1:8237"), ("origin", "http://127.0.0.1:8237")], True),
        ([("host", "127.0.0.1:8237"), ("origin", "http://127.0.0.1:3000")], False),
        ([("host", "127.0.0.1:8237"), ("origin", "null")], False),
        ([("host", "127.0.0.1:8237"), ("origin", "http://127.0.0.1:8237"), ("origin", "http://a.example")], False),
        ([("host", "a.example:8237")], False),
        ([("host", "a.example:8237"), ("origin", "http://a.example:8237")], False),
        ([("host", "localhost.a.example")], False),
        ([("host", "localhost:8237"), ("host", "a.example")], False),
        ([("host", "localhost:x@a.example")], False),
        ([("host", "")], False),
        ([], False),
    ],
)
def test_the_dashboard_answers_to_this_machine_and_its_own_page_only(headers, own):
    assert is_own([(name.encode(), value.encode()) for name, value in headers]) is own


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
