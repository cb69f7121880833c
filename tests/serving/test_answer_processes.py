"""Several processes that answer side by side: as one service, whatever happens to one of them."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from loopback import Answer as Reply
from openai_endpoint import STREAM, Endpoint, event
from passages import fill, passage
from waiting import until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Answer, Feedback, Question
from llm_engineering.domain.chunks import EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, ModelUnavailable
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import NotReady

BREAD = "Flour, water and salt make a very good bread."
ASKED = Question(text="What do flour, water and salt make?")


def index(platform, text: str = BREAD, *, rebuild: bool = False) -> None:
    [vector] = platform.embedder.embed([text])
    spec = IndexSpec(embedding=platform.embedder.spec)
    fill(platform.vectors, [EmbeddedChunk(passage(0, text=text, title="Baking"), vector)], spec=spec, rebuild=rebuild)


@pytest.fixture
def platform(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    with open_platform() as it:
        index(it)
        yield it


@pytest.fixture
def service(platform):
    it = AnswerProcesses(platform, AskConfig(), processes=2)
    it.load()
    yield it
    it.close()
    assert not answering()


def answering() -> list[psutil.Process]:
    """The processes that answer."""
    return [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


def ask(service, question=ASKED) -> Answer:
    *_, last = service.answer(question)
    return last


def all_loaded(service) -> None:
    until(lambda: all(one.loaded.is_set() for one in service._answerers))


def test_they_answer_as_one_service_would(service, platform):
    alone = AnswerService(platform, AskConfig())
    alone.load()
    expected, given = ask(alone), ask(service)
    assert given.model_copy(update={"trace_id": ""}) == expected.model_copy(update={"trace_id": ""})
    assert [type(step) for step in service.answer(ASKED)] == [type(step) for step in alone.answer(ASKED)]
    assert service.search(ASKED) == alone.search(ASKED)
    assert (service.facets(), service.titles(3), service.models()) == (alone.facets(), alone.titles(3), alone.models())
    assert service.ready() == alone.ready()
    alone.close()


def test_questions_are_spread_over_the_processes(service):
    all_loaded(service)
    begun = [service.answer(ASKED) for _ in range(4)]
    for one in begun:
        next(one)
    assert [one.busy for one in service._answerers] == [2, 2]
    for one in begun:
        list(one)
    assert [one.busy for one in service._answerers] == [0, 0]


def test_what_goes_wrong_in_a_process_is_raised_here_as_it_is(service, platform):
    with pytest.raises(BadQuestion, match="there is no question"):
        ask(service, Question(text=" "))
    other = IndexSpec(embedding=EmbeddingSpec(model_id="hashing", size=8))
    fill(platform.vectors, [EmbeddedChunk(passage(0), [1.0] + [0.0] * 7)], spec=other, rebuild=True)
    with pytest.raises(EmbeddingMismatch, match="poe run-features --rebuild"):
        ask(service)
    assert "poe run-features --rebuild" in str(service.ready())
    index(platform, rebuild=True)
    assert ask(service).answered


def test_a_new_index_is_followed_by_every_process(service, platform):
    all_loaded(service)
    index(platform, BREAD.replace("bread", "pizza"), rebuild=True)
    begun = [service.answer(ASKED), service.answer(ASKED)]
    for one in begun:
        next(one)
    for one in begun:
        *_, last = one
        assert "pizza" in last.text


def test_feedback_is_kept(service, platform):
    service.feedback(Feedback(trace_id="t", thumbs_up=True))
    assert [one.trace_id for one in platform.feedback.all()] == ["t"]


def test_an_answer_leaves_its_trace(service, platform):
    answer = ask(service)
    until(lambda: answer.trace_id in [one["id"] for one in platform.tracer.recent(5)])


def test_before_the_first_has_loaded_nobody_can_answer(platform):
    service = AnswerProcesses(platform, AskConfig(), processes=2)
    assert [piece.ready for piece in service.ready().pieces] == [False]
    with pytest.raises(NotReady, match="still being loaded"):
        ask(service)
    service.close()


def test_told_to_end_while_it_loads_it_ends(platform):
    service = AnswerProcesses(platform, AskConfig(), processes=2)
    loading = threading.Thread(target=service.load)
    loading.start()
    until(answering)
    service.close()
    loading.join(60)
    assert not loading.is_alive()
    assert not answering()


def test_a_process_that_dies_fails_its_question_and_another_takes_its_place(service):
    all_loaded(service)
    begun = service.answer(ASKED)
    next(begun)
    [busy] = [one for one in service._answerers if one.busy]
    os.kill(busy._process.pid, signal.SIGKILL)
    with pytest.raises(NotReady, match="ask again"):
        list(begun)
    until(lambda: not busy.loaded.is_set())
    assert ask(service).answered, "the other one answers"
    all_loaded(service)
    assert len(answering()) == 2
    assert ask(service).answered


class Slow:
    """A model's server that says one word and then waits until it is told to go on, or nobody listens any more."""

    def __init__(self, site) -> None:
        self.endpoint = Endpoint(site)
        self.endpoint.answers(lambda request: Reply(headers=STREAM, body=self._words()))
        self.go, self.left = threading.Event(), threading.Event()

    def _words(self):
        try:
            yield event(delta={"content": "They make very good bread [1]. "})
            while not self.go.wait(0.05):
                yield b": still there\n\n"
            yield event(delta={}, finish="stop")
        finally:
            self.left.set()


@pytest.fixture
def slow(new_site, monkeypatch):
    it = Slow(new_site())
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:tiny")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", it.endpoint.url)
    yield it
    it.go.set()


@pytest.mark.usefixtures("slow")
def test_who_stops_listening_stops_the_model(slow, service):
    begun = service.answer(ASKED)
    next(begun)
    next(begun)
    begun.close()
    assert slow.left.wait(60)


@pytest.mark.usefixtures("slow")
def test_a_question_that_is_stopped_ends_without_an_answer(slow, service):
    stopped = threading.Event()
    begun = service.answer(ASKED, stop=stopped.is_set)
    next(begun)
    stopped.set()
    assert not [step for step in begun if isinstance(step, Answer)]
    assert slow.left.wait(60)


@pytest.mark.usefixtures("slow")
def test_a_model_that_is_down_is_told_with_all_that_is_known_of_it(slow, service):
    slow.endpoint.answers(lambda request: Reply(429, "{}", {"Content-Type": "application/json", "Retry-After": "60"}))
    with pytest.raises(ModelUnavailable) as caught:
        ask(service)
    assert (caught.value.retry, caught.value.retry_after) == (True, 60)


def test_processes_whose_parent_was_killed_end_by_themselves(platform, tmp_path):
    import subprocess
    import sys

    program = """
import sys, threading
from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
if __name__ == "__main__":
    with open_platform() as platform:
        service = AnswerProcesses(platform, AskConfig(), processes=1)
        service.load()
        print(service._answerers[0]._process.pid, flush=True)
        sys.stdin.read()
"""
    script = tmp_path / "serving.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(60)
