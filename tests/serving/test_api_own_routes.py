"""The platform's own routes, the probes and the document, against a real server."""

import json

import httpx
import pytest
from api_service import ScriptedService, serving

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import ModelUnavailable
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.service import Component

ASKED = {"question": "What makes bread?"}


@pytest.fixture
def service():
    return ScriptedService()


@pytest.fixture
def client(service):
    app = create_app(service, origins=("https://app.example",), hosts={"127.0.0.1"})
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as it:
        yield it


def events(response) -> list[tuple[str, dict]]:
    parts = [part.splitlines() for part in response.text.split("\n\n") if part]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def test_a_search_gives_passages_and_what_was_searched(client):
    found = client.post("/search", json=ASKED).json()
    assert found["understood"] == {"queries": ["What makes bread?"], "filters": {}, "by": "rules", "notes": []}
    [source] = found["sources"]
    assert source["passage"] == "Flour, water and salt make bread."
    assert source["url"] == "https://example.com/0?ref=1"
    assert source["published_at"] == "2024-01-01T12:00:00+00:00"


def test_filters_arrive_whole(client, service):
    filters = {
        "author": ["Ann  Other"], "author_id": ["x"], "kind": ["post"], "source": ["medium"], "document_id": ["d"],
        "published_from": "2024-01-01T00:00:00Z",
    }  # fmt: skip
    assert client.post("/search", json={**ASKED, "k": 3, "where": filters}).status_code == 200
    [question] = service.questions
    assert question.limit == 3
    where = question.where
    assert where == Where(
        author_id=(Author(name="Ann Other").id, "x"),
        kind=(Kind.POST,),
        source=("medium",),
        document_id=("d",),
        published_from=where.published_from,
    )
    assert where.published_from.isoformat() == "2024-01-01T00:00:00+00:00"


def test_an_answer_names_its_sources_and_its_trace(client, service):
    asked = {**ASKED, "history": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "temperature": 1}
    answer = client.post("/rag", json=asked).json()
    assert answer["answer"] == "Flour, water and salt make bread [1]."
    assert answer["trace_id"] == "trace-1"
    assert answer["citations"][0]["quote"] == "Flour"
    assert answer["usage"]["total_tokens"] == 12
    assert service.questions[0].history[0].content == "Hello"
    assert service.options == [{"max_tokens": 3, "temperature": 1.0}]


def test_a_streamed_answer_tells_every_step(client):
    response = client.post("/rag", json={**ASKED, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response)
    assert [name for name, _ in told] == ["understood", "sources", "delta", "delta", "answer"]
    assert told[1][1]["sources"][0]["number"] == 1
    assert told[2][1] == {"text": "Flour, water and salt "}
    assert told[4][1] == client.post("/rag", json=ASKED).json()


def test_an_error_in_a_stream_is_its_last_event(client, service):
    service.script = ("Flour ", ModelUnavailable("it hung up"))
    told = events(client.post("/rag", json={**ASKED, "stream": True}))
    assert [name for name, _ in told] == ["understood", "sources", "delta", "error"]
    assert told[3][1]["error"]["code"] == "model_unavailable"


def test_feedback_is_stored(client, service):
    given = Feedback(trace_id="trace-1", thumbs_up=False, comment="No.")
    response = client.post("/feedback", json=given.model_dump(exclude_unset=True))
    assert (response.status_code, response.json()) == (201, {"stored": True})
    assert service.stored == [given]


@pytest.mark.parametrize("path", ["/search", "/rag"])
@pytest.mark.parametrize("k", [0, -1, 10_000, "many", 2.5])
def test_an_impossible_number_of_passages_is_refused(client, service, path, k):
    response = client.post(path, json={**ASKED, "k": k})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "k"
    assert not service.questions


def test_a_misspelt_filter_is_refused_and_not_ignored(client):
    error = client.post("/search", json={**ASKED, "where": {"auther": ["Ann"]}}).json()["error"]
    assert error["message"] == "where.auther: there is no such field"
    assert error["param"] == "where.auther"


def test_alive_and_ready_are_two_things(client, service):
    assert client.get("/health").json() == {"status": "alive"}
    ready = client.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["index"] == {"version": "000001", "embedder": "hashing", "chunks": 1}


def test_what_is_not_ready_says_why(client, service):
    service.components, service.index = (Component(name="index", ready=False, reason="it is being loaded"),), None
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert ready.json() == {
        "ready": False,
        "pieces": [{"name": "index", "ready": False, "reason": "it is being loaded"}],
        "index": None,
    }
    assert "twin_ready 0.0" in client.get("/metrics").text
    assert client.get("/health").status_code == 200


def test_prometheus_sees_requests_answers_tokens_and_the_index(client, service):
    client.post("/rag", json=ASKED)
    service.broken = ModelUnavailable("gone")
    client.post("/rag", json=ASKED)
    client.get("/nowhere/ann@example.com")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    for line in (
        'twin_requests_total{method="POST",route="/rag",status="200"} 1.0',
        'twin_requests_total{method="POST",route="/rag",status="503"} 1.0',
        'twin_requests_total{method="GET",route="other",status="404"} 1.0',
        'twin_request_seconds_count{route="/rag"} 2.0',
        'twin_answers_total{outcome="answered"} 1.0',
        'twin_answers_total{outcome="failed"} 1.0',
        'twin_answers_total{outcome="abandoned"} 0.0',
        'twin_tokens_total{kind="completion"} 5.0',
        'twin_index_chunks{embedder="hashing",version="000001"} 1.0',
        "twin_ready 1.0",
        "twin_questions_waiting 0.0",
    ):
        assert line in response.text.splitlines()


def test_every_answer_has_the_request_id_that_was_given_or_a_new_one(client):
    given = client.get("/health", headers={"X-Request-ID": "job-7:a.b"})
    assert given.headers["x-request-id"] == "job-7:a.b"
    for bad in ("with space", "x" * 101, "<script>"):
        other = client.get("/health", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert len(other) == 16


def test_every_answer_tells_browsers_to_be_careful(client):
    for response in (client.get("/health"), client.post("/rag", json={}), client.get("/nowhere")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    docs = client.get("/docs")
    assert docs.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    for loading in ("<script", "<link", "<img", "src=", "@import", "url("):
        assert loading not in docs.text
    for told in ("/v1/chat/completions", "where.published_from", "at most 50", "context window", "504"):
        assert told in docs.text
    assert client.get("/redoc").status_code == 404


def test_only_the_pages_that_were_named_may_call_it(client):
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/rag", headers=ask).headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in client.options("/rag", headers={**ask, "Origin": "https://x"}).headers


def test_without_origins_no_page_may_call_it(service):
    with serving(create_app(service)) as address:
        ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        response = httpx.options(f"{address}/rag", headers=ask)
    assert "access-control-allow-origin" not in response.headers


def test_a_foreign_host_name_is_refused(client):
    response = client.post("/rag", json=ASKED, headers={"Host": "evil.example"})
    assert response.status_code == 421
    assert "TWIN_API_HOSTS" in response.json()["error"]["message"]


def test_an_unknown_address_and_method_are_errors_in_the_same_shape(client):
    missing = client.get("/v2/chat")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "invalid_request_error"
    wrong = client.get("/rag")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert wrong.json()["error"]["message"] == "Method Not Allowed"
    assert client.head("/rag").content == b""


def test_the_document_has_examples_and_every_status(client):
    document = client.get("/openapi.json").json()
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) >= {"200", "400", "401", "404", "408", "413", "421", "429", "500", "503", "504"}
    assert "422" not in chat["responses"]
    assert document["components"]["schemas"]["SearchRequest"]["properties"]["question"]["examples"]
    assert "security" not in document


def test_the_service_is_loaded_when_the_server_starts_and_closed_when_it_ends(service):
    with serving(create_app(service)) as address:
        assert service.loaded.wait(20)
        assert httpx.get(f"{address}/health").status_code == 200
        assert not service.closed.is_set()
    assert service.closed.is_set()


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": ['
        + b",".join([b'{"role": "user", "content": [' + b",".join([b"{}"] * 900) + b"]}"] * 190)
        + b"]}",
        b"{" + b",".join(b'"%d": 1' % number for number in range(90_000)) + b"}",
        b"[" + b",".join([b"[]"] * 300_000) + b"]",
        b'{"question": "x", "history": [' + b",".join([b"1"] * 400_000) + b"]}",
    ],
    ids=["parts", "fields", "lists", "numbers"],
)
@pytest.mark.parametrize("path", ["/rag", "/v1/chat/completions"])
def test_a_body_of_countless_values_is_refused_before_each_is_looked_at(client, service, path, body):
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert "more than 20,000 values" in response.json()["error"]["message"]
    assert not service.questions


def test_a_long_conversation_in_parts_is_no_such_body(client):
    parts = [{"type": "text", "text": "Hello, [you] {there}: 1, 2, 3"}] * 10
    messages = [{"role": ("user", "assistant")[number % 2], "content": parts} for number in range(199)]
    assert client.post("/v1/chat/completions", json={"model": "llm-twin", "messages": messages}).status_code == 200
