"""`poe bench hostile` attacks a real server, which lives on, and measures what others feel of it."""

import httpx
import pytest
from waiting import SECONDS

from tools.bench import hostile
from tools.bench.serving import _settings, fill, run_clients, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = _settings(tmp_path_factory.mktemp("home"), "hashing:64")
    fill(settings, 200, real=True)
    with serving(settings) as it:
        yield it


@pytest.mark.slow
def test_every_hostile_request_is_answered_and_the_server_lives_on(server):
    """Each of them, with the real patterns: none is left hanging until its worker is killed."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=SECONDS) as client:
        for body in hostile.hostile_bodies():
            response = client.post("/rag", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in (200, 400, 413), (body[:200], response.text)
            assert client.get("/health").status_code == 200


@pytest.mark.slow
def test_good_clients_are_answered_beside_a_hostile_one(server):
    with hostile.attacked(server.port) as statuses:
        load = run_clients(server.port, 24, clients=4)
    assert load.errors == 0
    assert set(statuses) <= {"200", "400", "413"}
    assert sum(statuses.values()) > 0
