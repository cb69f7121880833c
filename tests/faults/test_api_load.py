"""A crowd asks the whole platform while its model fails and its index is swapped: right answers or honest errors."""

import hashlib
import json
import threading
from collections import Counter

import httpx
import pytest
from api_service import WAIT, serving
from loopback import Answer
from openai_endpoint import Endpoint, failure, stream
from passages import fill, passage
from waiting import until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import ChunkingSpec, EmbeddedChunk, IndexSpec
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.limits import Limits
from llm_engineering.settings import load_settings

ASKED = {"question": "What do flour, water and salt make?"}
BREAD = "Flour, water and salt make a very good bread"


@pytest.fixture
def endpoint(new_site):
    it = Endpoint(new_site())
    it.says(["They make ", "bread [1]."])
    return it


@pytest.fixture
def platform(monkeypatch, endpoint):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:tiny")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("TWIN_OPENAI_TIMEOUT", "5")
    with open_platform() as it:
        publish(it, 0)
        yield it


def publish(platform, version: int) -> None:
    spec = IndexSpec(embedding=platform.embedder.spec, chunking=ChunkingSpec(window=1200 + version % 2))
    chunk = passage(0, text=f"{BREAD} number {version}.", title="Baking")
    [vector] = platform.embedder.embed([chunk.text])
    fill(platform.vectors, [EmbeddedChunk(chunk, vector)], spec=spec, rebuild=True)


@pytest.fixture
def address(platform):
    app = create_app(AnswerService(platform, AskConfig()), limits=Limits(threads=4))
    with serving(app) as it, httpx.Client(base_url=it, timeout=WAIT) as client:
        until(lambda: client.get("/ready").status_code == 200)
        yield it


class Crowd:
    """Threads that ask again and again, whole and streamed, and judge every answer."""

    def __init__(self, address: str, *, size: int = 4) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._over, self._news = threading.Event(), threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(address, n % 2 == 1)) for n in range(size)]
        for one in self._threads:
            one.start()

    def _ask(self, address: str, streamed: bool) -> None:
        with httpx.Client(base_url=address, timeout=WAIT) as client:
            while not self._over.is_set():
                try:
                    response = client.post("/rag", json={**ASKED, "stream": streamed})
                    outcome = self._judged(response, streamed)
                except httpx.TransportError as error:
                    outcome = f"wrong: {error!r}"
                with self._news:
                    self.outcomes[outcome.partition(":")[0]] += 1
                    if outcome.startswith("wrong"):
                        self.wrong.append(outcome)
                    self._news.notify_all()

    def _judged(self, response: httpx.Response, streamed: bool) -> str:
        if response.status_code == 200:
            last = response.text.strip().rpartition("data: ")[2] if streamed else response.text
            body = json.loads(last)
        else:
            body = response.json()
        if "error" in body:
            honest = body["error"]["code"] == "model_unavailable" and response.status_code in (200, 503)
            return "honest" if honest else f"wrong: {response.status_code} {response.text}"
        right = body["answer"] == "They make bread [1]." and body["sources"][0]["text"].count(BREAD)
        return "right" if right else f"wrong: {response.text}"

    def wait_for(self, outcome: str, more: int = 4) -> None:
        """Until that many more answers came out so."""
        with self._news:
            enough = self.outcomes[outcome] + more
            assert self._news.wait_for(lambda: self.outcomes[outcome] >= enough or self.wrong, 60), self.outcomes
        assert not self.wrong

    def goes(self) -> None:
        self._over.set()
        for one in self._threads:
            one.join()


def hang_up(request) -> Answer:
    """As a server that is killed: nothing comes where something was promised."""
    return Answer(200, b"", {"Content-Type": "text/event-stream", "Content-Length": "100"})


@pytest.mark.slow
def test_no_request_gets_a_wrong_answer_or_a_500(address, platform, endpoint):
    crowd = Crowd(address)
    try:
        crowd.wait_for("right")
        for version, fault in enumerate(
            (
                failure(500),
                failure(429, Retry_After="0"),
                hang_up,
                lambda request: stream(["They make "], finish=None),
                lambda request: Answer(200, "<html>garbage</html>", {"Content-Type": "text/html"}),
            ),
            start=1,
        ):
            endpoint.answers(fault)
            publish(platform, version)
            crowd.wait_for("honest")
            endpoint.says(["They make ", "bread [1]."])
            publish(platform, version + 10)
            crowd.wait_for("right")
    finally:
        crowd.goes()
    assert not crowd.wrong
    ready = httpx.get(f"{address}/ready").json()
    assert (ready["ready"], ready["index"]["version"]) == (True, "000011")


def test_a_model_that_is_down_makes_the_server_not_ready_until_it_speaks_again(address, endpoint):
    endpoint.answers(failure(500))
    assert httpx.post(f"{address}/rag", json=ASKED, timeout=WAIT).status_code == 503
    with httpx.Client(base_url=address, timeout=WAIT) as client:
        until(lambda: client.get("/ready").status_code != 200)
        assert client.post("/search", json=ASKED).status_code == 200
        endpoint.says("They make bread [1].")
        assert client.post("/rag", json=ASKED).status_code == 200
        until(lambda: client.get("/ready").status_code == 200)


def test_asking_changes_nothing_but_traces_and_feedback(address, platform):
    platform.warehouse.count()  # opened, so that its file is there
    before = stored()
    assert httpx.post(f"{address}/rag", json=ASKED, timeout=WAIT).status_code == 200
    assert httpx.post(f"{address}/search", json={**ASKED, "where": {"author": ["Nobody"]}}).status_code == 200
    thought = {"trace_id": "t", "thumbs_up": True, "question": "Written by Someone New?"}
    assert httpx.post(f"{address}/feedback", json=thought).status_code == 201
    after = stored()
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {"feedback.jsonl"}
    assert {name for name in before if name.startswith("vectors/")}


def stored() -> dict[str, str]:
    """Every file at home with its content, traces and locks apart."""
    home = load_settings().home
    files = (
        path for path in home.rglob("*") if path.is_file() and "traces" not in path.parts and path.suffix != ".lock"
    )
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
