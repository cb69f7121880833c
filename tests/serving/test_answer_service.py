"""The real service behind the API: real index, real embedder, real extractive answers."""

import threading

import pytest
from passages import fill, passage
from waiting import SECONDS, until

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Answer, Feedback, Question
from llm_engineering.domain.chunks import ChunkingSpec, EmbeddedChunk, EmbeddingSpec, IndexSpec
from llm_engineering.domain.errors import BadQuestion, EmbeddingMismatch, ModelUnavailable, StoreUnavailable
from llm_engineering.inference.config import AskConfig
from llm_engineering.serving.answer_service import AnswerService
from llm_engineering.serving.api.service import NotReady
from llm_engineering.serving.model_health import CHECK_EVERY, ModelHealth

BREAD = "Flour, water and salt make a very good bread."
ASKED = Question(text="What do flour, water and salt make?")


@pytest.fixture
def platform(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    with open_platform() as it:
        yield it


def index(platform, *texts: str, chunking: ChunkingSpec | None = None, rebuild: bool = False) -> None:
    spec = IndexSpec(embedding=platform.embedder.spec, chunking=chunking or ChunkingSpec())
    chunks = [passage(i, text=text) for i, text in enumerate(texts)]
    vectors = platform.embedder.embed([chunk.text for chunk in chunks])
    fill(platform.vectors, [EmbeddedChunk(*pair) for pair in zip(chunks, vectors, strict=True)], spec=spec,
         rebuild=rebuild)  # fmt: skip


@pytest.fixture
def service(platform):
    index(platform, BREAD)
    it = AnswerService(platform, AskConfig())
    it.load()
    yield it
    it.close()


def ask(service, question=ASKED) -> Answer:
    *_, last = service.answer(question)
    return last


def not_ready(service) -> dict[str, str]:
    return {piece.name: piece.reason for piece in service.ready().components if not piece.ready}


def test_before_it_is_loaded_it_says_so(platform):
    service = AnswerService(platform, AskConfig())
    assert not_ready(service) == {"embedder": "it is still being loaded"}
    with pytest.raises(NotReady, match="still being loaded"):
        service.search(ASKED)
    with pytest.raises(NotReady):
        ask(service)


def test_loaded_it_is_ready_and_names_the_index(service):
    ready = service.ready()
    assert ready.ready
    assert (ready.index.version, ready.index.embedder, ready.index.chunks) == ("000001", "hashing", 1)
    assert service.models() == ("llm-twin", "extractive")


def test_a_model_in_a_folder_is_named_without_the_way_to_it(monkeypatch):
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "transformers:/somewhere/private/twin-7b")
    with open_platform() as platform:
        assert AnswerService(platform, AskConfig()).models() == ("llm-twin", "twin-7b")


def test_it_answers_with_citations_and_leaves_a_trace(service, platform):
    answer = ask(service)
    assert answer.answered
    assert BREAD in answer.text
    assert answer.citations[0].passage == 1
    assert platform.tracer.recent(1)[0]["id"] == answer.trace_id


def test_it_searches(service):
    [found] = service.search(ASKED).passages
    assert found.chunk.text == BREAD
    with pytest.raises(BadQuestion):
        service.search(Question(text=" "))


def test_feedback_is_kept(service, platform):
    service.feedback(Feedback(trace_id="t", thumbs_up=True))
    assert [one.trace_id for one in platform.feedback.all()] == ["t"]


def test_what_is_indexed_later_is_found_without_a_restart(platform):
    service = AnswerService(platform, AskConfig())
    service.load()
    assert "nothing is indexed yet" in not_ready(service)["index"]
    with pytest.raises(NotReady, match="nothing is indexed yet"):
        ask(service)
    index(platform)
    assert "the index is empty" in not_ready(service)["index"]
    with pytest.raises(NotReady, match="the index is empty"):
        service.search(ASKED)
    index(platform, BREAD)
    assert service.ready().ready
    assert BREAD in ask(service).text


def test_an_index_cut_in_another_way_is_followed(service, platform):
    index(platform, BREAD, chunking=ChunkingSpec(max_tokens=50), rebuild=True)
    assert BREAD in ask(service).text
    assert service.ready().index.version == "000002"


def test_an_index_of_another_embedder_is_refused_and_not_ready(service, platform):
    other = IndexSpec(embedding=EmbeddingSpec(model_id="hashing", size=8))
    fill(platform.vectors, [EmbeddedChunk(passage(0), [1.0] + [0.0] * 7)], spec=other, rebuild=True)
    assert "poe run-features --rebuild" in not_ready(service)["index"]
    with pytest.raises(EmbeddingMismatch):
        ask(service)
    with pytest.raises(EmbeddingMismatch):
        service.search(ASKED)
    index(platform, BREAD, rebuild=True)
    assert service.ready().ready
    assert ask(service).answered


def test_a_damaged_index_is_told_and_mended_without_a_restart(service, platform, tmp_path):
    current = tmp_path / "twin" / "vectors" / "CURRENT"
    current.write_text("rubbish")
    reason = not_ready(service)["index"]
    assert "cannot be reached or read" in reason
    assert str(tmp_path) not in reason
    with pytest.raises(StoreUnavailable):
        ask(service)
    index(platform, BREAD, rebuild=True)
    assert service.ready().ready
    assert ask(service).answered


def test_an_embedder_that_cannot_be_had_is_told(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "./no/such/model")
    with open_platform() as platform:
        service = AnswerService(platform, AskConfig())
        service.load()
        assert "TWIN_EMBEDDER=" in not_ready(service)["embedder"]
        with pytest.raises(NotReady):
            service.search(ASKED)


@pytest.mark.slow
def test_new_versions_under_load_fail_no_request(service, platform):
    """Each version says another thing; every answer is that of a version that was published at the time."""
    done, wrong, right = threading.Event(), [], []

    def asks() -> None:
        while not done.is_set():
            try:
                answer = ask(service)
            except Exception as error:  # whatever it is, it is what this test looks for
                wrong.append(error)
                return
            (right if "make a very good" in answer.text else wrong).append(answer.text)

    crowd = [threading.Thread(target=asks) for _ in range(3)]
    for one in crowd:
        one.start()
    for version in range(6):
        index(platform, f"Flour, water and salt make a very good bread number {version}.", rebuild=version % 2 == 1)
    done.set()
    for one in crowd:
        one.join()
    assert not wrong
    assert right
    assert "number 5" in ask(service).text


class SwitchableModel:
    """A language model that is up or down as the test says."""

    name, generative = "switchable", True

    def __init__(self) -> None:
        self.error: ModelUnavailable | None = None
        self.checked = threading.Semaphore(0)
        self.options: list[dict] = []

    def stream(self, prompt, *, max_tokens, temperature=0.0, stop=lambda: False):
        self.options.append({"max_tokens": max_tokens, "temperature": temperature})
        yield "They make "
        if self.error:
            raise self.error
        yield "bread [1]."

    def check(self) -> str:
        self.checked.release()
        if self.error:
            raise self.error
        return "up"


@pytest.fixture
def model(platform):
    platform.__dict__["language_model"] = model = SwitchableModel()  # as the platform keeps what it has built
    return model


@pytest.mark.usefixtures("model")
def test_a_model_that_is_down_makes_it_not_ready_and_one_that_speaks_again_ready(platform, model):
    index(platform, BREAD)
    model.error = ModelUnavailable("the server at http://10.0.0.7:1/v1 is down")
    service = AnswerService(platform, AskConfig())
    service.load()
    assert "is down" in not_ready(service)["language model"]
    assert "10.0.0.7" not in not_ready(service)["language model"]
    with pytest.raises(ModelUnavailable):
        ask(service)
    assert service.search(ASKED).passages, "searching needs no language model"
    model.error = None
    assert ask(service).text == "They make bread [1]."
    assert service.ready().ready
    model.error = ModelUnavailable("gone again")
    with pytest.raises(ModelUnavailable):
        ask(service)
    assert "gone again" in not_ready(service)["language model"]


def test_an_answer_that_fails_late_says_nothing_of_a_model_that_has_spoken_since(platform, model):
    index(platform, BREAD)
    service = AnswerService(platform, AskConfig())
    service.load()
    late = service.answer(ASKED)
    next(late)  # begun
    ask(service)
    model.error = ModelUnavailable("it was restarted")
    with pytest.raises(ModelUnavailable):
        list(late)
    assert service.ready().ready


def test_that_nothing_was_found_says_nothing_of_the_model(platform, model):
    index(platform, BREAD)
    service = AnswerService(platform, AskConfig())
    service.load()
    model.error = ModelUnavailable("gone")
    with pytest.raises(ModelUnavailable):
        ask(service)
    assert not ask(service, Question(text="zebra xylophone")).answered
    assert "gone" in not_ready(service)["language model"]


def test_a_model_is_checked_again_in_the_background_when_it_is_due():
    moment = [1000.0]
    model = SwitchableModel()
    health = ModelHealth(model, now=lambda: moment[0])
    health.check()
    assert model.checked.acquire(blocking=False)
    model.error = ModelUnavailable("gone")
    assert health.component().ready, "it was checked just now"
    moment[0] += CHECK_EVERY + 1
    health.component()
    assert model.checked.acquire(timeout=SECONDS)
    until(lambda: not health.component().ready)


def test_the_options_of_one_request_are_its_own(platform, model):
    index(platform, BREAD)
    service = AnswerService(platform, AskConfig())
    service.load()
    list(service.answer(ASKED, max_tokens=7, temperature=0.5))
    ask(service)
    config = AskConfig().answer
    assert model.options == [
        {"max_tokens": 7, "temperature": 0.5},
        {"max_tokens": config.max_tokens, "temperature": config.temperature},
    ]
