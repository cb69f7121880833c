"""`poe bench serving` measures what it says: a real server, real answers, errors counted."""

import pytest
from loopback import Answer

from tools.bench.serving import _settings, fill, memory, p95, questions, run_clients, seconds_without_api, serving


@pytest.mark.slow
def test_the_load_is_answered_and_memory_is_told_apart(tmp_path):
    settings = _settings(tmp_path / "home", "hashing:64")
    fill(settings, 200, real=True)
    with serving(settings) as server:
        load = run_clients(server.port, 12, clients=3)
        own, resident = memory(server.pid)
    assert (len(load.seconds), load.errors) == (12, 0)
    assert 0 < own <= resident
    assert server.seconds > 0


def test_what_the_service_itself_takes_is_measured_with_and_without_tracing(tmp_path):
    settings = _settings(tmp_path / "home", "hashing:64")
    fill(settings, 50, real=True)
    bare, tracing = seconds_without_api(settings)
    assert bare > abs(tracing)
    assert list((tmp_path / "home" / "traces").iterdir())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, '{"error": {}}', {"Content-Type": "application/json"}),
        Answer(200, '{"answered": false, "citations": []}', {"Content-Type": "application/json"}),
        Answer(200, "no JSON", {"Content-Type": "application/json"}),
    ],
)
def test_every_answer_that_is_not_right_is_an_error(site, answer):
    site.route("/rag", lambda request: answer)
    assert run_clients(site.port, 4, clients=2).errors == 4


def test_questions_ask_for_what_is_there_and_p95_is_of_the_slowest():
    assert len(set(questions(50))) == 50
    assert p95([float(n) for n in range(1, 101)]) == 95.0
