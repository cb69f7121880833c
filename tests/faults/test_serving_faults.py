"""The whole platform behind the API: what a question, a model, a store or a registry may be, and what it then says."""

import json
import socket
from contextlib import contextmanager

import httpx
import pytest
from api_service import WAIT, serving
from loopback import Answer
from openai_endpoint import Endpoint, failure, stream
from passages import fill, passage
from waiting import until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.app import create_app

ASKED = {"question": "What do flour, water and salt make?"}
CHAT = {"model": "llm-twin", "messages": [{"role": "user", "content": ASKED["question"]}]}
BREAD = "Flour, water and salt make a very good bread."


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_TRACING", "off")


def publish(*, spec: EmbeddingSpec | None = None, texts: tuple[str, ...] = (BREAD,)) -> None:
    with open_platform() as platform:
        spec = spec or platform.embedder.spec
        chunks = [passage(number, text=text, title="Baking") for number, text in enumerate(texts)]
        vectors = [[1.0] + [0.0] * (spec.size - 1)] * len(chunks)
        if spec == platform.embedder.spec and chunks:
            vectors = platform.embedder.embed([chunk.text for chunk in chunks])
        rows = [EmbeddedChunk(*pair) for pair in zip(chunks, vectors, strict=True)]
        fill(platform.vectors, rows, spec=IndexSpec(embedding=spec), rebuild=True)


@contextmanager
def served():
    """A client of a server that has loaded what it could."""
    with open_platform() as platform:
        app = create_app(AnswerService(platform, AskConfig()))
        with serving(app) as address, httpx.Client(base_url=address, timeout=WAIT) as client:
            until(lambda: "is still being loaded" not in client.get("/ready").text)
            yield client
            assert client.get("/health").status_code == 200


def reasons(client) -> dict[str, str]:
    """Of the pieces that are not ready."""
    response = client.get("/ready")
    wrong = {piece["name"]: piece["reason"] for piece in response.json()["pieces"] if not piece["ready"]}
    assert response.status_code == (503 if wrong else 200)
    return wrong


def error_of(response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


def refusals(client, *, search: bool) -> list[httpx.Response]:
    """Every way to ask that can still answer with a status, when it is the model (or, with `search`, the index)."""
    asked = [("/rag", ASKED), ("/v1/chat/completions", CHAT), ("/v1/chat/completions", {**CHAT, "stream": True})]
    if search:
        asked += [("/search", ASKED), ("/rag", {**ASKED, "stream": True})]
    return [client.post(path, json=body) for path, body in asked]


def error_event(client) -> dict:
    """Of /rag, which has told the sources by the time the model fails."""
    *_, last = client.post("/rag", json={**ASKED, "stream": True}).text.strip().split("\n\n")
    name, _, data = last.partition("\ndata: ")
    assert name == "event: error"
    return json.loads(data)["error"]


# --- questions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("TWIN_EMBEDDER", "hashing:64")
        publish()
        with served() as it:
            yield it


def chat(text: str) -> dict:
    return {"model": "llm-twin", "messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("text", ["", " \n\t", "\u2003"])
def test_a_question_without_words_is_refused_with_what_to_do(client, text):
    for path, body in (
        ("/rag", {"question": text}),
        ("/search", {"question": text}),
        ("/v1/chat/completions", chat(text)),
    ):
        response = client.post(path, json=body)
        assert response.status_code == 400, path
        assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "🙂🙃🥖",
        "ما الذي يصنعه الدقيق والماء والملح؟",
        "מה עושים קמח, מים ומלח?",
        "What do 小麦粉, вода and sal make?",
        "\x00\x01\x02\x7f\ufffe",
        "\u202eekam",
        "e\u0301" * 500,
        "(" * 3000,
        "What " * 2000,
    ],
)
def test_any_other_question_gets_an_answer_or_is_told_why_not(client, text):
    for path, body in (
        ("/rag", {"question": text}),
        ("/search", {"question": text}),
        ("/v1/chat/completions", chat(text)),
    ):
        response = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert response.status_code in (200, 400), (path, response.text)
        assert response.status_code == 200 or response.json()["error"]["message"]


def test_a_megabyte_is_refused_whether_the_body_or_the_question_is_too_long(client):
    assert error_of(client.post("/rag", json={"question": "x" * 1_000_000}))[:2] == (413, "too_large")
    assert error_of(client.post("/rag", json={"question": "x y " * 100_000}))[:2] == (400, "context_length_exceeded")
    assert client.post("/rag", json={"question": "x y " * 24_000}).status_code in (200, 400)


@pytest.mark.parametrize(
    "where", [{"author": ["Nobody Knows"]}, {"source": ["nowhere"]}, {"published_to": "1900-01-01T00:00:00Z"}]
)
def test_a_filter_that_matches_nothing_finds_nothing_and_is_not_widened(client, where):
    found = client.post("/search", json={**ASKED, "where": where})
    assert (found.status_code, found.json()["sources"]) == (200, [])
    answer = client.post("/rag", json={**ASKED, "where": where}).json()
    assert (answer["answered"], answer["sources"], answer["citations"]) == (False, [], [])
    assert answer["answer"]


# --- the language model ------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(new_site, monkeypatch):
    it = Endpoint(new_site())
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:tiny")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", it.url)
    monkeypatch.setenv("TWIN_OPENAI_TIMEOUT", "5")
    it.says("They make bread [1].")
    publish()
    return it


@pytest.mark.parametrize(
    "fault",
    [
        failure(500, Retry_After="0"),
        failure(429, Retry_After="0"),
        failure(401),
        lambda request: Answer(200, "<html>garbage</html>", {"Content-Type": "text/html"}),
        lambda request: Answer(200, b"data: {]\n\n", {"Content-Type": "text/event-stream"}),
        lambda request: stream([]),
    ],
    ids=["500", "429", "401", "garbage", "broken events", "nothing"],
)
def test_whatever_the_endpoint_does_it_is_the_model_that_is_named(endpoint, fault):
    with served() as client:
        assert client.post("/rag", json=ASKED).json()["answer"] == "They make bread [1]."
        endpoint.answers(fault)
        for response in refusals(client, search=False):
            status, code, message = error_of(response)
            assert (status, code) == (503, "model_unavailable")
            assert "the language model cannot answer" in message
            assert endpoint.url not in response.text
        assert error_event(client)["code"] == "model_unavailable"
        while list(reasons(client)) != ["language model"]:  # a look is believed for a second
            assert client.post("/rag", json=ASKED).status_code == 503
        assert client.post("/search", json=ASKED).status_code == 200, "searching needs no language model"
        endpoint.says("They make bread [1].")
        assert client.post("/rag", json=ASKED).status_code == 200


def test_half_a_stream_is_an_error_in_the_stream_and_a_status_without(endpoint):
    endpoint.answers(lambda request: stream(["They make bread [1]. ", "And "], finish=None))
    with served() as client:
        assert error_of(client.post("/rag", json=ASKED))[:2] == (503, "model_unavailable")
        streamed = client.post("/rag", json={**ASKED, "stream": True}).text
        assert "They make bread [1]." in streamed
        assert [streamed.count(f"event: {name}") for name in ("error", "answer")] == [1, 0]
        streamed = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
        assert "They make bread [1]." in streamed
        assert '"code":"model_unavailable"' in streamed
        assert "[DONE]" not in streamed


def test_an_endpoint_that_does_not_answer_is_given_up(endpoint, monkeypatch):
    monkeypatch.setenv("TWIN_OPENAI_TIMEOUT", "0.5")
    with served() as client:
        endpoint._site.latency = 1.5
        assert error_of(client.post("/rag", json=ASKED))[:2] == (503, "model_unavailable")
        endpoint._site.latency = 0.0
        assert client.post("/rag", json=ASKED).status_code == 200


def nobody_there() -> str:
    """An address on loopback at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_an_endpoint_that_is_down_leaves_the_server_alive_and_not_ready(endpoint, monkeypatch):
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", nobody_there())
    with served() as client:
        assert list(reasons(client)) == ["language model"]
        response = client.post("/rag", json=ASKED)
        assert error_of(response)[:2] == (503, "model_unavailable")
        assert "127.0.0.1" not in response.text
        assert error_event(client)["code"] == "model_unavailable"


def test_a_registry_that_is_empty_says_which_model_is_missing(tmp_path, monkeypatch):
    (tmp_path / "registry").mkdir()
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", f"transformers:{tmp_path}/registry")
    publish()
    with served() as client:
        assert "TWIN_LANGUAGE_MODEL=transformers:[path]: no model is there" in "".join(reasons(client).values())
        for response in refusals(client, search=True):
            status, code, message = error_of(response)
            assert (status, code) == (503, "not_ready")
            assert "no model is there" in message
            assert str(tmp_path) not in response.text


# --- the vector store --------------------------------------------------------------------------------------------


def test_an_empty_store_says_what_to_run(monkeypatch):
    with served() as client:
        for _ in range(2):  # nothing published, then published with nothing in it
            assert "poe run-features" in reasons(client)["index"]
            for response in refusals(client, search=True):
                status, code, message = error_of(response)
                assert (status, code) == (503, "not_ready")
                assert "poe run-features" in message
                assert response.headers["retry-after"]
            publish(texts=())


def test_an_index_of_another_embedder_is_refused_until_it_is_built_anew():
    publish(spec=EmbeddingSpec(model_id="another", size=8))
    with served() as client:
        assert "--rebuild" in reasons(client)["index"]
        for response in refusals(client, search=True):
            assert error_of(response)[:2] == (503, "embedding_mismatch")
        publish()
        assert BREAD in client.post("/rag", json=ASKED).json()["answer"]
        while reasons(client):  # a look is believed for a second
            pass


def test_a_store_that_is_down_leaves_the_server_alive_and_not_ready(monkeypatch):
    address = nobody_there()
    monkeypatch.setenv("TWIN_VECTORS", address)
    with served() as client:
        assert "cannot be reached" in reasons(client)["index"]
        for response in refusals(client, search=True):
            assert error_of(response)[:2] == (503, "store_unavailable")
            assert address.removeprefix("http://") not in response.text
            assert response.headers["retry-after"]
