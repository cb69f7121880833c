"""The service while the registry has nothing to serve, or something broken: alive, honest, and well again by itself."""

import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from api_service import WAIT, serving
from openai.types.chat import ChatCompletionMessageParam
from passages import fill, passage
from tiny_model import CHAT, make_tiny_model

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.inference.config import AnswerConfig, AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.app import create_app

BREAD = "Flour, water and salt make a very good bread."
ASKED = {"question": "What do flour, water and salt make?"}
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": ASKED["question"]}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), template=CHAT, context=4096)


@pytest.fixture
def name(request):
    return request.node.name.removeprefix("test_").partition("[")[0][:60]


@pytest.fixture
def platform(monkeypatch, name):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_TRACING", "off")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", f"registry:{name}")
    with open_platform() as it:
        vectors = it.embedder.embed([BREAD])
        fill(
            it.vectors, [EmbeddedChunk(passage(0, text=BREAD), vectors[0])], spec=IndexSpec(embedding=it.embedder.spec)
        )
        yield it


class Service(AnswerService):
    def __init__(self, platform) -> None:
        super().__init__(platform, AskConfig(answer=AnswerConfig(max_tokens=12)))
        self.loaded = threading.Event()

    def load(self) -> None:
        super().load()
        self.loaded.set()


@contextmanager
def served(platform):
    """A client of a server that has loaded what it could and goes on living, and the service behind it."""
    service = Service(platform)
    with serving(create_app(service)) as address, httpx.Client(base_url=address, timeout=WAIT) as client:
        assert service.loaded.wait(WAIT)
        yield client, service
        assert client.get("/health").status_code == 200


def reason(service) -> str:
    """Why the language model is not ready; empty when all is. `/ready` itself is believed for a second."""
    wrong = {piece.name: piece.reason for piece in service.ready().components if not piece.ready}
    assert set(wrong) <= {"language model"}
    return wrong.get("language model", "")


def refused(client) -> str:
    """What a question is told, in the same words on every way to ask it."""
    chat = {"model": "llm-twin", "messages": MESSAGES}
    asked = [client.post("/rag", json=ASKED), client.post("/v1/chat/completions", json=chat)]
    assert {(one.status_code, one.json()["error"]["code"]) for one in asked} == {(503, "model_unavailable")}
    [message] = {one.json()["error"]["message"] for one in asked}
    return message


def test_with_an_empty_registry_the_service_lives_searches_says_what_to_do_and_heals(platform, tiny, name):
    with served(platform) as (client, service):
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert f"the registry has no model {name}" in ready.text
        for missing in (f"poe models register {name} FOLDER", f"poe models promote {name} VERSION"):
            assert missing in refused(client)
            assert missing in reason(service)
            assert client.get("/health").status_code == 200
            found = client.post("/search", json=ASKED)
            assert found.status_code == 200
            assert found.json()["sources"][0]["passage"] == BREAD
            assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["llm-twin", name]
            platform.registry.register(name, tiny)
        platform.registry.promote(name, 1)
        answer = client.post("/rag", json=ASKED)
        assert answer.status_code == 200, answer.text
        assert answer.json()["answer"]
        assert reason(service) == ""


def test_the_official_client_asks_it_under_its_name(platform, tiny, name):
    platform.registry.register(name, tiny)
    platform.registry.promote(name, 1)
    with served(platform) as (client, service):
        assert reason(service) == ""
        official = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0)
        with official:
            said = official.chat.completions.create(model=name, messages=MESSAGES)
        assert said.choices[0].message.content
        assert said.usage
        assert 0 < said.usage.completion_tokens <= 12


def test_weights_that_vanish_are_told_without_their_place_and_a_promotion_mends_it(platform, tiny, tmp_path, name):
    registry = platform.registry
    registry.register(name, tiny)
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    (other / "note.txt").write_text("another")
    gone = registry.register(name, other)
    registry.promote(name, 2)
    shutil.rmtree(gone.folder)
    with served(platform) as (client, service):
        for told in (reason(service), refused(client)):
            assert f"the weights of {name}@2 are not what was registered" in told
            assert f"`poe models promote {name} VERSION`" in told
            assert str(gone.folder) not in told
            assert gone.folder.name not in told
        registry.promote(name, 1)
        assert client.post("/rag", json=ASKED).status_code == 200
        assert reason(service) == ""
