"""A registry's version as the language model: found late, followed, and honest while there is none."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from passages import passage
from tiny_model import CHAT, make_tiny_model

from llm_engineering.bootstrap import build_language_model, build_registry
from llm_engineering.domain.answers import Passage, Usage
from llm_engineering.domain.errors import ConfigError, ModelUnavailable, StoreUnavailable
from llm_engineering.domain.models import ModelVersion, Stage
from llm_engineering.domain.prompts import Prompt, answer_prompt
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.language_models.registered import RegistryModel
from llm_engineering.settings import Settings

TEXT = "Sourdough bread needs flour, water and salt."
PROMPT = answer_prompt("What does bread need?", [Passage(number=1, chunk=passage(1, text=TEXT), score=1.0, text=TEXT)])
REGISTRY = build_registry()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), template=CHAT)


@pytest.fixture
def name(request):
    return request.node.name.removeprefix("test_").partition("[")[0][:60]


@pytest.fixture
def add(tiny, tmp_path, name):
    """add("one") registers a model with weights of its own."""

    def register(what: str, stage: Stage | None = None):
        folder = Path(shutil.copytree(tiny, tmp_path / what))
        (folder / "note.txt").write_text(what)
        done = REGISTRY.register(name, folder)
        return REGISTRY.promote(name, done.version, stage) if stage else done

    return register


def say(model) -> list:
    return list(model.stream(PROMPT, max_tokens=5))


def test_the_setting_names_a_version_of_the_registry_and_it_answers_as_the_folder_would(add, name, tiny):
    add("one", Stage.PRODUCTION)
    model = build_language_model(Settings(language_model=f"registry:{name}"), HashingEmbedder(8))
    assert (model.name, model.generative) == (name, True)
    *pieces, usage = whole = say(model)
    assert pieces
    assert isinstance(usage, Usage)
    assert whole == say(build_language_model(Settings(language_model=f"transformers:{tiny}"), HashingEmbedder(8)))
    assert model.check().startswith(f"registry: {name}@1 (production); transformers: ")


def test_a_version_or_a_stage_may_be_named(add, name):
    add("one")
    add("two", Stage.STAGING)
    assert f"{name}@1 (not promoted)" in RegistryModel(f"{name}@1", registry=REGISTRY).check()
    assert f"{name}@2 (staging)" in RegistryModel(f"{name}@staging", registry=REGISTRY).check()


@pytest.mark.parametrize("setting", ["registry:", "registry: ", "registry:../x", "registry:x@", "registry:x@newest"])
def test_a_setting_that_names_no_version_is_refused_at_once(setting):
    with pytest.raises(ConfigError):
        build_language_model(Settings(language_model=setting), HashingEmbedder(8))


def test_while_there_is_none_it_says_what_is_missing_and_then_answers_without_being_made_again(add, name):
    model = RegistryModel(name, registry=REGISTRY)
    for ask in (model.check, lambda: say(model)):
        with pytest.raises(ModelUnavailable, match=f"poe models register {name} FOLDER") as caught:
            ask()
        assert not caught.value.retry
    add("one")
    for ask in (model.check, lambda: say(model)):
        with pytest.raises(ModelUnavailable, match=f"in production; there is 1: `poe models promote {name} VERSION`"):
            ask()
    REGISTRY.promote(name, 1)
    assert isinstance(say(model)[-1], Usage)


def test_a_newly_promoted_version_answers_and_the_old_one_finishes_what_it_began(add, name):
    add("one", Stage.PRODUCTION)
    model = RegistryModel(name, registry=REGISTRY, load=ReadingModel, refresh_seconds=0.0)
    begun = model.stream(PROMPT, max_tokens=5)
    assert next(begun) == "one"
    add("two", Stage.PRODUCTION)
    assert "@2 (production)" in model.check()
    assert say(model) == ["two", "the end of two"]
    assert list(begun) == ["the end of one"]
    REGISTRY.promote(name, 1)
    assert say(model) == ["one", "the end of one"]


def test_it_does_not_ask_the_registry_for_every_question_but_for_every_check(add, name):
    add("one", Stage.PRODUCTION)
    registry = CountingRegistry()
    model = RegistryModel(name, registry=registry, refresh_seconds=1e9)
    for _ in range(3):
        say(model)
    assert registry.found == [(name, Stage.PRODUCTION)]
    model.check()
    assert len(registry.found) == 2


def test_weights_are_loaded_once_however_often_it_looks_and_whatever_stage_they_get(add, name):
    add("one", Stage.PRODUCTION)
    loaded = []

    def load(folder: str) -> ScriptedModel:
        loaded.append(folder)
        return ScriptedModel(folder)

    model = RegistryModel(f"{name}@1", registry=REGISTRY, load=load, refresh_seconds=0.0)
    assert [say(model), say(model)] == [["said"], ["said"]]
    REGISTRY.promote(name, 1, Stage.ARCHIVED)
    assert "(archived)" in model.check()
    assert len(loaded) == 1


def test_a_version_taken_out_of_production_answers_no_more(add, name):
    add("one", Stage.PRODUCTION)
    model = RegistryModel(name, registry=REGISTRY, refresh_seconds=0.0)
    say(model)
    REGISTRY.promote(name, 1, Stage.ARCHIVED)
    with pytest.raises(ModelUnavailable, match=r"in production; there is 1 \(archived\)"):
        say(model)


def test_removed_weights_are_reported_with_the_way_back(add, name):
    add("one", Stage.PRODUCTION)
    gone = add("two", Stage.PRODUCTION)
    shutil.rmtree(gone.folder)
    model = RegistryModel(name, registry=REGISTRY, refresh_seconds=0.0)
    with pytest.raises(ModelUnavailable, match=f"weights of {name}@2 .* is gone.*poe models promote {name} VERSION"):
        model.check()
    REGISTRY.promote(name, 1)
    assert isinstance(say(model)[-1], Usage)


def test_weights_that_cannot_be_read_name_their_version(add, name):
    done = add("one", Stage.PRODUCTION)
    [weights] = done.folder.glob("*.safetensors")
    weights.write_bytes(bytes(weights.stat().st_size))
    model = RegistryModel(name, registry=REGISTRY)
    with pytest.raises(ModelUnavailable, match=f"^{name}@1 cannot answer: .*cannot be loaded"):
        say(model)
    config = done.folder / "config.json"
    config.write_text("{" + " " * (config.stat().st_size - 1))
    with pytest.raises(ModelUnavailable, match=f"^{name}@1 cannot answer: "):
        model.check()


def test_while_the_registry_cannot_be_asked_the_version_in_hand_goes_on(add, name):
    add("one", Stage.PRODUCTION)

    registry = CountingRegistry()
    registry.down = True
    model = RegistryModel(name, registry=registry, load=ScriptedModel, refresh_seconds=0.0)
    with pytest.raises(ModelUnavailable, match="it is locked") as caught:
        say(model)
    assert caught.value.retry
    registry.down = False
    assert say(model) == ["said"]
    registry.down = True
    assert say(model) == ["said"]
    assert "(production)" in model.check()


class CountingRegistry:
    """The registry, which can be down, and what was looked up in it."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int | Stage]] = []
        self.down = False

    def find(self, name: str, which: int | Stage = Stage.PRODUCTION) -> ModelVersion:
        if self.down:
            raise StoreUnavailable("the model registry (ZenML) cannot be used: it is locked")
        self.found.append((name, which))
        return REGISTRY.find(name, which)


class ScriptedModel:
    name, generative = "scripted", True

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        yield "said"

    def check(self) -> str:
        return "scripted"


class ReadingModel(ScriptedModel):
    """Says what is written in its folder."""

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        note = (self.folder / "note.txt").read_text()
        yield note
        yield f"the end of {note}"
