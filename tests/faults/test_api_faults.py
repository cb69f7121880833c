"""What clients, models and stores may do to the API. Each time: the right status, a helpful message, and it goes on."""

import base64
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from api_service import WAIT, ScriptedService, serving
from loguru import logger
from waiting import until

from llm_engineering.domain.answers import Answer
from llm_engineering.domain.errors import (
    EmbeddingMismatch,
    LLMTwinError,
    ModelUnavailable,
    StoreCorrupt,
    StoreUnavailable,
)
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.errors import without_paths
from llm_engineering.serving.api.keys import KeyRing
from llm_engineering.serving.api.limits import Limits, RateLimiter
from llm_engineering.serving.api.service import NotReady, WorkTimeout

ASKED = {"question": "What makes bread?"}
CHAT = {"model": "llm-twin", "messages": [{"role": "user", "content": "What makes bread?"}]}


@contextmanager
def api(service, **options):
    limits = Limits(**{"drain_seconds": 5.0, **options.pop("limits", {})})
    app = create_app(service, limits=limits, **options)
    with serving(app) as address, httpx.Client(base_url=address, timeout=WAIT) as client:
        yield client
        assert client.get("/health").status_code == 200, "the server did not outlive the test"


def code(response) -> tuple[int, str | None]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def service():
    return ScriptedService()


@pytest.fixture
def client(service):
    with api(service) as it:
        yield it


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/search", "/rag", "/feedback", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b'{"k": NaN}', b'{"k": 1' + b"0" * 5000],
)  # fmt: skip
def test_a_body_that_is_no_object_is_refused(client, service, path, body):
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"]
    assert not service.questions


def test_json_that_is_called_something_else_is_refused_because_any_page_could_send_it(client):
    response = client.post("/search", content=json.dumps(ASKED), headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize("question", [7, None, [], {}, True])
def test_a_wrong_type_is_refused(client, question):
    response = client.post("/rag", json={"question": question})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "question"


@pytest.mark.parametrize("question", ["🙂🙃", "ما هو الخبز؟", "What is パン и хлеб?", "a\x00b", "‮abc", "\ud83d"])
def test_any_text_may_be_asked(client, question):
    body = json.dumps({"question": question})
    response = client.post("/rag", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400)  # half a character may be refused
    response.json()
    assert (response.status_code == 200) or question == "\ud83d"


def test_unknown_fields_of_openai_clients_do_no_harm(client):
    assert client.post("/v1/chat/completions", json={**CHAT, "logit_bias": {}, "zzz": 1}).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(service):
    with api(service, limits={"body_bytes": 1000}) as client:
        assert code(client.post("/rag", json={"question": "x" * 1000})) == (413, "too_large")
        pieces = (b"x" * 100 for _ in range(11))  # without a length
        response = client.post("/rag", content=pieces, headers={"Content-Type": "application/json"})
        assert code(response) == (413, "too_large")
        assert client.post("/rag", json={"question": "x" * 900}).status_code == 200


def test_one_megabyte_is_the_limit_unless_told_otherwise(client):
    assert code(client.post("/rag", json={"question": "x" * 1_000_000})) == (413, "too_large")
    assert code(client.post("/rag", json={"question": "x" * 900_000})) == (400, "context_length_exceeded")


def test_a_conversation_that_is_too_long_is_refused(client):
    turns = [{"role": "user", "content": "x" * 60_000}] * 2
    assert code(client.post("/rag", json={**ASKED, "history": turns})) == (400, "context_length_exceeded")
    assert code(client.post("/search", json={"question": "x" * 100_001})) == (400, "context_length_exceeded")


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ring(tmp_path):
    return KeyRing(tmp_path / "api_keys.json")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_without_a_key_only_the_probes_answer(service, ring):
    ring.add("a")
    with api(service, keys=ring, require_keys=True) as client:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/docs", "/nowhere"):
            response = client.get(path)
            assert code(response) == (401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
            assert "Authorization: Bearer KEY" in response.json()["error"]["message"]
        assert client.post("/rag", content=b"{").status_code == 401  # before the body is looked at
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
    assert not service.questions


def test_a_wrong_an_expired_and_a_revoked_key_are_told_apart(service, tmp_path):
    moment = [datetime(2026, 1, 1, tzinfo=UTC)]
    ring = KeyRing(tmp_path / "keys.json", now=lambda: moment[0])
    _, short = ring.add("a", expires=moment[0] + timedelta(days=1))
    key, good = ring.add("b")
    with api(service, keys=ring, require_keys=True) as client:
        assert client.post("/rag", json=ASKED, headers=bearer(good)).status_code == 200
        assert client.post("/rag", json=ASKED, headers=bearer(short)).status_code == 200
        moment[0] += timedelta(days=2)
        ring.revoke(key.id)
        for secret, word in (
            (short, "expired"),
            (good, "revoked"),
            ("twin-guess", "not known"),
        ):
            response = client.post("/rag", json=ASKED, headers=bearer(secret))
            assert code(response) == (401, "invalid_api_key")
            assert word in response.json()["error"]["message"]


def test_a_browser_is_asked_for_the_key_and_may_send_it_as_a_password(service, ring):
    _, secret = ring.add("a")
    with api(service, keys=ring, require_keys=True) as client:
        asked = client.get("/docs", headers={"Accept": "text/html"})
        assert asked.headers["www-authenticate"].startswith("Basic")
        assert client.get("/docs", auth=("anyone", secret)).status_code == 200
        assert client.get("/docs", auth=("anyone", "wrong")).status_code == 401
        for rubbish in ("Basic \xff", "Basic " + base64.b64encode(b"\xff").decode(), "Digest x", "Bearer"):
            assert client.get("/docs", headers={"Authorization": rubbish.encode("latin-1")}).status_code == 401


def test_on_loopback_any_key_will_do_and_a_known_one_counts(service, ring):
    _, secret = ring.add("a", rate=1)
    with api(service, keys=ring) as client:
        for _ in range(3):
            assert client.post("/rag", json=ASKED, headers=bearer("sk-no-key-needed")).status_code == 200
        assert client.post("/rag", json=ASKED, headers=bearer(secret)).status_code == 200
        assert client.post("/rag", json=ASKED, headers=bearer(secret)).status_code == 429


def test_keys_that_cannot_be_read_let_nobody_in(service, ring, tmp_path):
    _, secret = ring.add("a")
    with api(service, keys=ring, require_keys=True) as client:
        (tmp_path / "api_keys.json").write_text("{")
        response = client.post("/rag", json=ASKED, headers=bearer(secret))
        assert code(response) == (503, "store_unavailable")
        assert str(tmp_path) not in response.text


# --- floods ------------------------------------------------------------------------------------------------------


def test_a_rate_and_a_quota_are_told_with_the_time_to_come_back(service, ring, tmp_path):
    (_, rate), (_, quota) = ring.add("a", rate=2), ring.add("b", quota=1)
    limiter = RateLimiter(tmp_path / "usage.json")
    with api(service, keys=ring, require_keys=True, rate_limiter=limiter) as client:
        told = [client.post("/rag", json=ASKED, headers=bearer(rate)) for _ in range(3)]
        assert [one.status_code for one in told] == [200, 200, 429]
        assert 1 <= int(told[2].headers["retry-after"]) <= 30
        told = [client.post("/rag", json=ASKED, headers=bearer(quota)) for _ in range(2)]
        assert code(told[1]) == (429, "insufficient_quota")
        assert client.get("/v1/models", headers=bearer(rate)).status_code == 200
    assert set(json.loads((tmp_path / "usage.json").read_text())["used"].values()) == {1, 2}


def test_a_flood_is_turned_away_at_once_and_what_was_taken_is_answered(service):
    go = threading.Event()
    service.script = (go, "Flour.")
    with api(service, limits={"threads": 1, "waiting": 2}) as client, ThreadPoolExecutor(3) as crowd:
        taken = [crowd.submit(client.post, "/rag", json=ASKED) for _ in range(3)]
        assert service.begun.acquire(timeout=WAIT)
        while "twin_questions_waiting 2.0" not in client.get("/metrics").text:
            assert not any(one.done() for one in taken)
        for path, body in (("/rag", ASKED), ("/search", ASKED), ("/v1/chat/completions", {**CHAT, "stream": True})):
            refused = client.post(path, json=body)
            assert code(refused) == (503, "server_busy")
            assert int(refused.headers["retry-after"]) >= 1
        go.set()
        assert [one.result().json()["answer"] for one in taken] == ["Flour."] * 3
        assert client.post("/rag", json=ASKED).status_code == 200


def test_one_key_cannot_take_every_place(service, ring):
    go = threading.Event()
    service.script = (go, "Flour.")
    (_, greedy), (_, modest) = ring.add("greedy"), ring.add("modest")
    limits = {"threads": 2, "waiting": 2, "waiting_per_key": 1}
    with api(service, keys=ring, require_keys=True, limits=limits) as client, ThreadPoolExecutor(2) as crowd:
        first = crowd.submit(client.post, "/rag", json=ASKED, headers=bearer(greedy))
        assert service.begun.acquire(timeout=WAIT)
        refused = client.post("/rag", json=ASKED, headers=bearer(greedy))
        assert code(refused) == (429, "too_many_at_once")
        assert refused.headers["retry-after"]
        second = crowd.submit(client.post, "/rag", json=ASKED, headers=bearer(modest))
        assert service.begun.acquire(timeout=WAIT)
        go.set()
        assert first.result().status_code == second.result().status_code == 200
        assert client.post("/rag", json=ASKED, headers=bearer(greedy)).status_code == 200


# --- clients that are slow, or leave -----------------------------------------------------------------------------


@contextmanager
def raw(client, *lines: str, body: bytes = b""):
    """A connection of one's own, on which a request was begun."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=WAIT) as connection:
        head = "\r\n".join([*lines, "Host: 127.0.0.1", "Content-Type: application/json", "", ""])
        connection.sendall(head.encode() + body)
        yield connection


def everything(connection) -> bytes:
    """Until the server closes it."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            got += piece
    return got


def test_a_body_that_never_comes_is_not_waited_for(service):
    with api(service, limits={"client_seconds": 0.2}) as client:
        with raw(client, "POST /rag HTTP/1.1", "Content-Length: 100", body=b'{"ques') as connection:
            answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"too_slow" in answer


def test_a_body_that_drips_is_not_waited_for_either(service):
    """However often a piece of it comes: its time is that of the whole."""
    with api(service, limits={"client_seconds": 0.5}) as client:
        with raw(client, "POST /rag HTTP/1.1", "Content-Length: 1000000", body=b'{"ques') as connection:
            connection.settimeout(0.05)
            answer = b""
            while not answer:
                connection.sendall(b"x")
                with suppress(TimeoutError):
                    answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("stream", [False, True])
def test_work_that_was_given_up_is_told_as_such(service, stream):
    service.broken = WorkTimeout(15)
    with api(service) as client:
        response = client.post("/rag", json={**ASKED, "stream": stream})
        assert code(response) == (504, "timeout")
        assert "more than 15 seconds of work" in response.json()["error"]["message"]
        assert code(client.post("/v1/chat/completions", json={**CHAT, "stream": stream})) == (504, "timeout")
        assert code(client.post("/search", json=ASKED)) == (504, "timeout")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/rag", "/v1/chat/completions"])
def test_a_client_that_leaves_stops_the_model(service, path, stream):
    service.script = ("Flour ", threading.Event(), "never said")
    body = json.dumps({**(ASKED if path == "/rag" else CHAT), "stream": stream}).encode()
    with api(service, limits={"threads": 1}) as client:
        with raw(client, f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", body=body) as connection:
            assert service.begun.acquire(timeout=WAIT)
            if stream:
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert service.ended.acquire(timeout=WAIT)
        assert service.stopped == 1
        service.script = ("Flour.",)
        assert client.post("/rag", json=ASKED).status_code == 200  # its thread is free again
        assert 'twin_answers_total{outcome="abandoned"} 1.0' in client.get("/metrics").text
        assert f'twin_requests_total{{method="POST",route="{path}",status="499"}} 1.0' in client.get("/metrics").text


def test_a_client_that_takes_nothing_loses_its_place(service):
    service.script = ("x" * 100_000,) * 1000
    body = json.dumps({**ASKED, "stream": True}).encode()
    with (
        api(service, limits={"threads": 1, "client_seconds": 0.3}) as client,
        raw(client, "POST /rag HTTP/1.1", f"Content-Length: {len(body)}", body=body) as connection,
    ):
        assert service.ended.acquire(timeout=WAIT)
        assert service.stopped == 1
        service.script = ("Flour.",)
        assert client.post("/rag", json=ASKED).status_code == 200
        assert b"event: answer" not in everything(connection)


def test_a_client_that_left_while_waiting_is_never_answered(service):
    go = threading.Event()
    service.script = (go, "Flour.")
    body = json.dumps(ASKED).encode()
    with api(service, limits={"threads": 1}) as client, ThreadPoolExecutor(1) as other:
        first = other.submit(client.post, "/rag", json=ASKED)
        assert service.begun.acquire(timeout=WAIT)
        with raw(client, "POST /rag HTTP/1.1", f"Content-Length: {len(body)}", body=body):
            while "twin_questions_waiting 1.0" not in client.get("/metrics").text:
                pass
        while 'status="499"' not in client.get("/metrics").text:
            pass
        go.set()
        assert first.result().status_code == 200
        while "twin_questions_waiting 0.0" not in client.get("/metrics").text:
            pass
    assert len(service.questions) == 1


# --- models and stores -------------------------------------------------------------------------------------------


def test_an_answer_that_takes_too_long_is_given_up(service):
    service.script = ("Flour ", threading.Event())
    with api(service, limits={"answer_seconds": 0.3}) as client:
        assert code(client.post("/rag", json=ASKED)) == (504, "timeout")
        told = client.post("/rag", json={**ASKED, "stream": True}).text
        assert told.count("event: delta") == 1
        assert '"code":"timeout"' in told.partition("event: error")[2]
        assert service.ended.acquire(timeout=WAIT)
        assert service.ended.acquire(timeout=WAIT)
        assert service.stopped == 2


ERRORS = [
    (ModelUnavailable("gpt at http://10.1.2.3:8000/v1 refuses: connection refused"), "model_unavailable", "[address]"),
    (ModelUnavailable("no such model", retry=False), "model_unavailable", "no such model"),
    (StoreUnavailable("/srv/secret/vectors cannot be read"), "store_unavailable", "cannot be reached or read"),
    (StoreCorrupt("/srv/secret/vectors is damaged"), "store_unavailable", "cannot be reached or read"),
    (EmbeddingMismatch("the index in /srv/secret is other"), "embedding_mismatch", "poe run-features --rebuild"),
    (NotReady("nothing is indexed yet: run `poe run-features`"), "not_ready", "poe run-features"),
    (LLMTwinError("see /srv/secret/file for more"), "unavailable", "see [path] for more"),
]


@pytest.mark.parametrize(("error", "name", "words"), ERRORS)
@pytest.mark.parametrize(("path", "body"), [("/rag", ASKED), ("/search", ASKED), ("/rag", {**ASKED, "stream": True})])
def test_an_error_behind_the_api_is_told_without_saying_where_things_are(
    client, service, path, body, error, name, words
):
    service.broken = error
    response = client.post(path, json=body)
    assert code(response) == (503, name)
    assert words in response.json()["error"]["message"]
    for secret in ("/srv", "10.1.2.3"):
        assert secret not in response.text
    service.broken = None
    assert client.post(path, json=body).status_code == 200


def test_when_to_come_back_is_said_where_coming_back_helps(client, service):
    service.broken = ModelUnavailable("busy", retry_after=3)
    assert client.post("/rag", json=ASKED).headers["retry-after"] == "3"
    service.broken = ModelUnavailable("no such model", retry=False)
    assert "retry-after" not in client.post("/rag", json=ASKED).headers


def test_a_full_disk_does_not_lose_feedback_silently(client, service):
    service.broken = StoreUnavailable("the feedback file cannot be written")
    response = client.post("/feedback", json={"trace_id": "t", "thumbs_up": True})
    assert code(response) == (503, "store_unavailable")


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_is_told_by_its_request_id_and_explained_in_the_log(client, service, stream):
    service.broken = KeyError("/srv/secret")
    logged: list[str] = []
    sink = logger.add(logged.append, level="ERROR")
    response = client.post("/rag", json={**ASKED, "stream": stream}, headers={"X-Request-ID": "find-me"})
    logger.remove(sink)
    assert code(response) == (500, "internal_error")
    assert "find-me" in response.json()["error"]["message"]
    assert "/srv" not in response.text
    assert "Traceback" not in response.text
    assert "find-me" in "".join(logged)
    assert "KeyError" in "".join(logged)


def test_a_bug_half_way_cuts_the_stream_short_and_not_the_server(client, service):
    service.script = ("Flour ", ZeroDivisionError("a bug"))
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/rag", json={**ASKED, "stream": True})
    service.script = ("Flour.",)
    assert client.post("/rag", json=ASKED).status_code == 200


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("see /home/ann/.twin/vectors: gone", "see [path]: gone"),
        ("~/x/y and ./here/it/is, C:\\Users\\ann", "[path] and [path], [path]"),
        ("data/home/index is locked", "[path] is locked"),
        (
            "TWIN_LANGUAGE_MODEL=transformers:/srv/models/x: no model",
            "TWIN_LANGUAGE_MODEL=transformers:[path]: no model",
        ),
        ("ask https://user:pw@host:1/v1?k=2 again", "ask [address] again"),
        ("either/or, 1/2, run `poe run-features`", "either/or, 1/2, run `poe run-features`"),
        ("line\n\ttwo", "line two"),
    ],
)
def test_messages_lose_paths_and_addresses_and_nothing_else(said, left):
    assert without_paths(said) == left


@pytest.mark.parametrize("piece", ["a.", "a-", "a/", "a+", "/"])
def test_a_message_that_quotes_a_megabyte_is_told_in_its_first_words(piece):
    """Looked for in all of it, paths and addresses would take hours."""
    assert len(without_paths(piece * 500_000)) <= 1000


# --- bugs --------------------------------------------------------------------------------------------------------


class Awkward(ScriptedService):
    """Meets a bug whenever an answer of it is closed or over."""

    def answer(self, question, **options):
        try:
            yield from super().answer(question, **options)
        finally:
            raise ZeroDivisionError("at the end")


@pytest.mark.parametrize("script", [("Flour ", threading.Event()), ("x" * 100_000,) * 1000], ids=["silent", "writing"])
def test_a_bug_at_the_end_of_an_answer_costs_no_thread(script):
    service = Awkward()
    with api(service, limits={"threads": 1, "waiting": 0}) as client:
        service.script = script
        logged: list[str] = []
        sink = logger.add(logged.append, level="ERROR")
        for _ in range(2):  # left half-way, so that it is closed in the thread
            with client.stream("POST", "/rag", json={**ASKED, "stream": True}) as told:
                next(told.iter_lines())
            assert service.ended.acquire(timeout=WAIT)
            while "twin_questions_working 0.0" not in client.get("/metrics").text:
                pass
        logger.remove(sink)
        assert "ZeroDivisionError" in "".join(logged)
        assert client.post("/search", json=ASKED).status_code == 200


def test_a_bug_while_loading_is_logged_and_the_server_says_that_it_is_not_ready():
    class Broken(ScriptedService):
        def load(self):
            super().load()
            raise ZeroDivisionError("in load")

    logged: list[str] = []
    sink = logger.add(logged.append, level="ERROR")
    service = Broken()
    with api(service) as client:
        assert service.loaded.wait(WAIT)
        while (response := client.get("/ready")).status_code == 200:
            pass
        assert "met a bug" in response.json()["pieces"][0]["reason"]
    logger.remove(sink)
    assert "in load" in "".join(logged)
    assert service.closed.is_set()


def test_the_metrics_count_a_bug_as_a_failure(client, service):
    service.broken = KeyError("x")
    assert client.post("/rag", json=ASKED).status_code == 500
    metrics = client.get("/metrics").text
    assert 'twin_answers_total{outcome="failed"} 1.0' in metrics
    assert 'twin_answers_total{outcome="abandoned"} 0.0' in metrics


@pytest.mark.parametrize("path", ["/rag", "/v1/chat/completions"])
def test_a_stream_that_ends_without_an_answer_does_not_look_whole(path):
    class Short(ScriptedService):
        def answer(self, question, **options):
            yield from (one for one in super().answer(question, **options) if not isinstance(one, Answer))

    with api(Short()) as client, pytest.raises(httpx.RemoteProtocolError):
        client.post(path, json={**(ASKED if path == "/rag" else CHAT), "stream": True})


# --- the end -----------------------------------------------------------------------------------------------------


def _takes_connections(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_server_told_to_stop_finishes_what_it_began_and_takes_nothing_new(service):
    go = threading.Event()
    service.script = ("Flour ", go, "and water.")
    with ThreadPoolExecutor(2) as crowd:
        stopping = serving(create_app(service))
        address = stopping.__enter__()
        asked = crowd.submit(httpx.post, f"{address}/rag", json={**ASKED, "stream": True}, timeout=WAIT)
        assert service.begun.acquire(timeout=WAIT)
        ended = crowd.submit(stopping.__exit__, None, None, None)
        while _takes_connections(address):
            assert not asked.done()
        assert not asked.done()
        go.set()
        assert '"answer":"Flour and water."' in asked.result().text
        ended.result()
    assert service.closed.is_set()


def test_a_server_told_to_stop_does_not_wait_for_ever(service):
    service.script = ("Flour ", threading.Event())
    with ThreadPoolExecutor(1) as crowd:
        with serving(create_app(service), timeout_graceful_shutdown=1) as address:
            asked = crowd.submit(httpx.post, f"{address}/rag", json={**ASKED, "stream": True}, timeout=WAIT)
            assert service.begun.acquire(timeout=WAIT)
        assert service.stopped == 1
        with pytest.raises(httpx.RemoteProtocolError):
            asked.result()


def test_where_questions_wait_a_short_one_overtakes_a_long_one_that_came_just_before(service):
    hold = threading.Event()
    service.script = (hold, "Flour.")
    long = {**ASKED, "history": [{"role": "user", "content": "x" * 90_000}]}
    with api(service, limits={"threads": 1}) as client, ThreadPoolExecutor(3) as asking:
        answers = [asking.submit(client.post, "/rag", json=ASKED)]
        assert service.begun.acquire(timeout=WAIT)
        for number, body in enumerate((long, {"question": "short"}), start=1):
            answers.append(asking.submit(client.post, "/rag", json=body))
            until(lambda n=number: f"twin_questions_waiting {n}.0" in client.get("/metrics").text)
        hold.set()
        assert [one.result(WAIT).status_code for one in answers] == [200, 200, 200]
    assert [one.text for one in service.questions] == [ASKED["question"], "short", ASKED["question"]]
