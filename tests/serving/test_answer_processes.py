"""Several processes that answer side by side: as one service, whatever happens to one of them."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import process_time, sleep

import psutil
import pytest
from passages import fill, passage
from waiting import SECONDS, until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Answer, Feedback, Question, Usage
from llm_engineering.domain.chunks import EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, ModelUnavailable
from llm_engineering.domain.prompts import answer_prompt
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses, WaitedFor, _on_service
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import NotReady, WorkTimeout
from llm_engineering.serving.worker_process import WorkerProcess

BREAD = "Flour, water and salt make a very good bread."
ASKED = Question(text="What do flour, water and salt make?")
PROMPT = answer_prompt("What?", (), (), query="What?")


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


def submit(worker: WorkerProcess, function, *given, **options):
    return worker.submit(_on_service, function, *given, **options)


def pid_of(worker: WorkerProcess) -> int:
    return result(submit(worker, _pid))


def result(call):
    [found] = call.results()
    return found


@contextmanager
def asleep(worker: WorkerProcess) -> Generator[int]:
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
    with asleep(service._workers[0]), asleep(service._workers[1]):
        waiting = [submit(service._least_busy(), _pid) for _ in range(4)]
        assert [one.calls for one in service._workers] == [2, 2]
    assert len({result(call) for call in waiting}) == 2


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
        *_, last = submit(one, AnswerService.answer, ASKED, streams=True).results()
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
        failing = submit(first, _pid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NotReady, match="ask again"):
            result(failing)
    until(lambda: not first.loaded.is_set())
    assert ask(service).answered, "the other one answers"
    assert not first.calls
    all_loaded(service)
    assert len(answering()) == 2
    assert pid_of(first) not in (pid, pid_of(second))


def test_a_question_that_is_stopped_ends_without_an_answer(service):
    all_loaded(service)
    stopped = threading.Event()
    with asleep(service._workers[0]), asleep(service._workers[1]), ThreadPoolExecutor(1) as asking:
        events = asking.submit(lambda: list(service.answer(ASKED, stop=stopped.is_set)))
        until(lambda: any(one.calls for one in service._workers))
        stopped.set()
        assert events.result(SECONDS) == []


@pytest.mark.parametrize(
    "error", [NotReady("a", retry_after=7), ModelUnavailable("b", retry=False, retry_after=8), WorkTimeout(3)]
)
def test_all_that_is_known_of_an_error_comes_out_of_the_process(error):
    given = pickle.loads(pickle.dumps(error))
    assert (type(given), str(given), vars(given)) == (type(error), str(error), vars(error))


class Peculiar(Exception):
    """Cannot be built again from its arguments."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class Panic(BaseException):
    """As what a library written in Rust raises."""


def _raises_peculiar(service: AnswerService) -> None:
    raise Peculiar(code=7)


def _panics(service: AnswerService) -> None:
    raise Panic("index out of bounds")


@pytest.mark.parametrize(
    ("function", "words"), [(_raises_peculiar, "Peculiar: code 7"), (_panics, "Panic: index out of bounds")]
)
def test_a_bug_of_any_kind_is_that_calls_own_and_says_where_it_was(service, function, words):
    before = pid_of(service._workers[0])
    with pytest.raises(RuntimeError, match=words) as raised:
        result(submit(service._workers[0], function))
    assert function.__name__ in "".join(raised.value.__notes__)
    assert pid_of(service._workers[0]) == before


def test_told_to_end_in_order_a_process_closes_what_it_opened(platform):
    """The file of traces is written by a thread of its own, which has to be waited for."""
    service = AnswerProcesses(platform, AskConfig(), processes=1)
    service.load()
    answer = ask(service)
    service.close()
    assert not answering()
    assert answer.trace_id in [one["id"] for one in platform.tracer.recent(5)]


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_processes_whose_parent_was_killed_end_by_themselves(platform, tmp_path, state):
    program = """
import sys, threading
from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_processes import AnswerProcesses
def _pid(service):
    import os
    return os.getpid()
def _stuck(service):
    import re
    re.match("(a+)+$", "a" * 50 + "b")
if __name__ == "__main__":
    with open_platform() as platform:
        service = AnswerProcesses(platform, AskConfig(), processes=1)
        service.load()
        print(service._result(_pid), flush=True)
        if sys.argv[1] == "busy":
            threading.Thread(target=service._result, args=(_stuck,), daemon=True).start()
            while not service._workers[0].calls:
                pass
        print("now", flush=True)
        sys.stdin.read()
"""
    script = tmp_path / "serving.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script), state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "now\n"
    parent.kill()
    parent.communicate()
    child.wait(60)


# --- what does not come back ---------------------------------------------------------------------------------------


def _stuck(service: AnswerService) -> None:
    """For years, in C, with the interpreter's lock held: no thread of that process does anything meanwhile."""
    re.match("(a+)+$", "a" * 50 + "b")


def _slow(service: AnswerService, seconds: float) -> int:
    sleep(seconds)
    return os.getpid()


@pytest.fixture
def hasty(platform):
    """May work for two seconds on a question."""
    made = []

    def make(**options) -> AnswerProcesses:
        platform.settings = platform.settings.model_copy(update={"api_work_seconds": 2.0})
        made.append(AnswerProcesses(platform, AskConfig(), **options))
        made[-1].load()
        all_loaded(made[-1])
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert not answering()


def test_a_question_that_takes_too_long_is_given_up_and_its_process_replaced(hasty):
    service = hasty(processes=2)
    before = {pid_of(one) for one in service._workers}
    with ThreadPoolExecutor(1) as asking:
        hostile = asking.submit(service._result, _stuck)
        until(lambda: any(one.calls for one in service._workers))
        assert ask(service).answered, "the other process answers meanwhile"
        with pytest.raises(WorkTimeout, match="more than 2 seconds of work"):
            hostile.result(SECONDS)
    all_loaded(service)
    assert len(before & {pid_of(one) for one in service._workers}) == 1
    assert len(answering()) == 2


def test_who_waited_behind_it_is_answered_by_another(hasty):
    service = hasty(processes=2)
    stuck, other = service._workers
    with ThreadPoolExecutor(1) as asking:
        hostile = submit(stuck, _stuck)
        busy = [submit(other, _slow, 0.4) for _ in range(2)]  # one more than the stuck one has
        waiting = asking.submit(service._result, _pid)
        until(lambda: stuck.calls == 2)
        with pytest.raises(WorkTimeout):
            result(hostile)
        assert {waiting.result(SECONDS)} == {result(one) for one in busy}


def test_one_that_works_on_several_at_once_asks_the_others_again_when_one_is_stuck(hasty):
    service = hasty(processes=1, slots=4)
    with ThreadPoolExecutor(1) as asking:
        hostile = asking.submit(service._result, _stuck)
        with pytest.raises(WorkTimeout):
            hostile.result(SECONDS)
    until(lambda: service._workers[0].loaded.is_set())
    assert ask(service).answered


class Waiting:
    """A model whose first piece comes after a while."""

    name, generative = "waiting", True

    def check(self) -> str:
        return "there"

    def stream(self, prompt, *, max_tokens, temperature=0.0, stop=lambda: False):
        sleep(0.1)
        yield "now"


def test_waiting_for_a_model_is_no_work_and_it_is_told_when_it_begins_and_ends():
    told = []
    pieces = WaitedFor(Waiting(), tell=told.append).stream(PROMPT, max_tokens=1)
    assert next(pieces) == "now"
    assert told == ["waiting"]
    pieces.close()
    assert told == ["waiting", "working"]


class Writing(Waiting):
    """Takes long to write, in this process."""

    def stream(self, prompt, *, max_tokens, temperature=0.0, stop=lambda: False):
        end = process_time() + 3
        while process_time() < end:
            pass
        yield "now"


def test_a_call_that_waits_for_its_model_may_take_longer(hasty):
    service = hasty(processes=1, slots=2)
    assert service._result(_waits_for_a_model) == ["now"]


def _waits_for_a_model(service: AnswerService) -> list[str | Usage]:
    return list(service._wrapped(Writing()).stream(PROMPT, max_tokens=1))


def test_answers_are_streamed_while_they_are_written_where_a_model_writes(hasty):
    service = hasty(processes=1, slots=2)
    events = service.answer(ASKED)
    first = next(events)
    assert first.queries
    *_, last = events
    assert isinstance(last, Answer)


def test_closing_does_not_wait_for_a_stuck_process(platform):
    service = AnswerProcesses(platform, AskConfig(), processes=1)
    service.load()
    with ThreadPoolExecutor(1) as asking:
        hostile = asking.submit(service._result, _stuck)
        until(lambda: service._workers[0].calls)
        service.close()
        assert isinstance(hostile.exception(SECONDS), NotReady)
    assert not answering()
