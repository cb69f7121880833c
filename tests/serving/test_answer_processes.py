"""Several processes that answer side by side: as one service, whatever happens to one of them."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from passages import fill, passage
from waiting import SECONDS, until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Answer, Feedback, Question
from llm_engineering.domain.chunks import EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, ModelUnavailable
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses, _call, _result, _whole_answer, _Worker
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


def _pid(service: AnswerService) -> int:
    return os.getpid()


def pid_of(worker: _Worker) -> int:
    return worker.submit(partial(_call, _pid)).result(SECONDS)


@contextmanager
def asleep(worker: _Worker) -> Generator[int]:
    """Its process does nothing meanwhile; gives its id."""
    pid = pid_of(worker)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def all_loaded(service) -> None:
    until(lambda: all(one.loaded.is_set() for one in service._workers))


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
    with asleep(service._workers[0]):
        waiting = [service._submit(_pid) for _ in range(4)]
        assert [len(one.running) for one in service._workers] == [2, 2]
    assert len({future.result(SECONDS) for future in waiting}) == 2


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
    for one in service._workers:
        [*_, last] = one.submit(partial(_call, _whole_answer, ASKED, max_tokens=None, temperature=None)).result(SECONDS)
        assert "pizza" in last.text


def test_feedback_is_kept(service, platform):
    service.feedback(Feedback(trace_id="t", thumbs_up=True))
    assert [one.trace_id for one in platform.feedback.all()] == ["t"]


def test_an_answer_leaves_its_trace(service, platform):
    answer = ask(service)
    until(lambda: answer.trace_id in [one["id"] for one in platform.tracer.recent(5)])


def test_before_the_first_has_loaded_nobody_can_answer(platform):
    service = AnswerProcesses(platform, AskConfig(), processes=2)
    assert [piece.ready for piece in service.ready().components] == [False]
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
    first, second = service._workers
    with asleep(first) as pid:
        failing = first.submit(partial(_call, _pid))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NotReady, match="ask again"):
            _result(failing)
    until(lambda: not first.loaded.is_set())
    assert ask(service).answered, "the other one answers"
    assert not first.running
    all_loaded(service)
    assert len(answering()) == 2
    assert pid_of(first) not in (pid, pid_of(second))


def test_a_question_that_is_stopped_ends_without_an_answer(service):
    all_loaded(service)
    stopped = threading.Event()
    with asleep(service._workers[0]), asleep(service._workers[1]), ThreadPoolExecutor(1) as asking:
        events = asking.submit(lambda: list(service.answer(ASKED, stop=stopped.is_set)))
        until(lambda: any(one.running for one in service._workers))
        stopped.set()
        assert events.result(SECONDS) == []


@pytest.mark.parametrize("error", [NotReady("a", retry_after=7), ModelUnavailable("b", retry=False, retry_after=8)])
def test_all_that_is_known_of_an_error_comes_out_of_the_process(error):
    given = pickle.loads(pickle.dumps(error))
    assert (type(given), str(given), vars(given)) == (type(error), str(error), vars(error))


def test_told_to_end_in_order_a_process_closes_what_it_opened(platform):
    """The file of traces is written by a thread of its own, which has to be waited for."""
    service = AnswerProcesses(platform, AskConfig(), processes=1)
    service.load()
    answer = ask(service)
    service.close()
    assert not answering()
    assert answer.trace_id in [one["id"] for one in platform.tracer.recent(5)]


def test_processes_whose_parent_was_killed_end_by_themselves(platform, tmp_path):
    program = """
import sys, threading
from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
def _pid(service):
    import os
    return os.getpid()
if __name__ == "__main__":
    with open_platform() as platform:
        service = AnswerProcesses(platform, AskConfig(), processes=1)
        service.load()
        print(service._submit(_pid).result(), flush=True)
        sys.stdin.read()
"""
    script = tmp_path / "serving.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(60)
