"""What every language model promises, one after the other."""

from itertools import islice

import pytest
from openai_endpoint import Endpoint
from passages import passage
from tiny_model import CHAT, make_tiny_model

from llm_engineering.bootstrap import build_registry
from llm_engineering.domain.answers import Passage, Usage
from llm_engineering.domain.prompts import answer_prompt
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.language_models.extractive import ExtractiveModel
from llm_engineering.infrastructure.language_models.local import TransformersModel
from llm_engineering.infrastructure.language_models.openai import OpenAIModel
from llm_engineering.infrastructure.language_models.registered import RegistryModel

TEXT = "Sourdough bread needs flour, water and salt. Patience makes the bread rise. Salt slows the yeast down a little."
PASSAGES = [Passage(number=1, chunk=passage(1, text=TEXT), score=1.0, text=TEXT)]
PROMPT = answer_prompt("What does sourdough bread need, and how does salt slow yeast?", PASSAGES)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), template=CHAT)


@pytest.fixture(params=["extractive", "openai", "transformers", "registry"])
def model(request, new_site, tiny):
    match request.param:
        case "extractive":
            return ExtractiveModel(HashingEmbedder(256))
        case "openai":
            endpoint = Endpoint(new_site())
            endpoint.says(["Bread ", "needs ", "flour [1]."])
            return OpenAIModel("tiny", base_url=endpoint.url, first_backoff=0.01)
        case "transformers":
            return TransformersModel(str(tiny))
        case "registry":
            registry = build_registry()
            registry.promote("law", registry.register("law", tiny).version)
            return RegistryModel("law", registry=registry)


def test_text_comes_in_pieces_and_then_one_usage(model):
    *pieces, usage = model.stream(PROMPT, max_tokens=40)
    assert pieces
    assert all(isinstance(piece, str) and piece for piece in pieces)
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0


def test_without_temperature_the_same_prompt_gives_the_same_answer(model):
    first, second = (list(model.stream(PROMPT, max_tokens=20)) for _ in range(2))
    assert first == second


def test_it_ends_early_when_told_to_stop(model):
    assert not any(isinstance(piece, Usage) for piece in model.stream(PROMPT, max_tokens=40, stop=lambda: True))


def test_closing_it_half_way_leaves_it_ready_for_the_next_question(model):
    stream = model.stream(PROMPT, max_tokens=40)
    assert list(islice(stream, 1))
    stream.close()
    assert len(list(model.stream(PROMPT, max_tokens=10))) >= 2


def test_it_says_what_it_is(model):
    assert model.name
    assert isinstance(model.generative, bool)
    assert model.check().partition(":")[0] in ("extractive", "openai", "transformers", "registry")
