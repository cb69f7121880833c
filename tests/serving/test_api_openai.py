"""The official `openai` client, unchanged, against a real server."""

import openai
import pytest
from api_service import ScriptedService, serving
from pydantic import ValidationError

from llm_engineering.domain.answers import Message
from llm_engineering.domain.errors import ModelUnavailable, StoreUnavailable
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.api.openai_schema import ChatRequest

HELLO = [{"role": "user", "content": "What makes bread?"}]


@pytest.fixture
def service():
    return ScriptedService()


@pytest.fixture
def client(service):
    app = create_app(service, limits=Limits(context_characters=2_000))
    with serving(app) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as it:
        yield it


def ask(client, messages=HELLO, **more):
    return client.chat.completions.create(model="llm-twin", messages=messages, **more)


def text(pieces) -> str:
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def test_an_answer_comes_with_usage_sources_and_citations(client):
    done = ask(client)
    assert done.choices[0].message.content == "Flour, water and salt make bread [1]."
    assert done.choices[0].finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 5, 12)
    facts = done.llm_twin
    assert facts["trace_id"] == "trace-1"
    assert facts["sources"][0]["title"] == "Baking"
    assert facts["citations"] == [{"source": 1, "quote": "Flour", "start": 7, "end": 12}]


def test_a_streamed_answer_comes_in_pieces_and_ends_with_its_sources(client):
    pieces = list(ask(client, stream=True))
    assert [piece.choices[0].delta.content for piece in pieces] == [
        "", "Flour, water and salt ", "make bread [1].", None,
    ]  # fmt: skip
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert pieces[-1].llm_twin["sources"][0]["number"] == 1
    assert {piece.usage for piece in pieces} == {None}
    assert len({piece.id for piece in pieces}) == 1


def test_a_stream_counts_tokens_when_asked_to(client):
    *_, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.total_tokens == 12


def test_the_conversation_the_parts_and_the_options_arrive(client, service):
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "Who bakes?"},
        {"role": "assistant", "content": "Ann [1]."},
        {"role": "user", "content": [{"type": "text", "text": "And what"}, {"type": "text", "text": "with?"}]},
    ]
    done = ask(client, messages, temperature=0.5, max_completion_tokens=9, user="me", seed=3, tools=[])
    [question] = service.questions
    assert question.text == "And what\nwith?"
    assert question.history == (
        Message(role="user", content="Who bakes?"),
        Message(role="assistant", content="Ann [1]."),
    )
    assert service.options == [{"max_tokens": 9, "temperature": 0.5}]
    assert done.llm_twin["notes"] == ["1 messages with instructions or tool results were not used"]


def test_an_answer_as_long_as_allowed_says_so(client):
    assert ask(client, max_tokens=5).choices[0].finish_reason == "length"
    assert list(ask(client, max_tokens=5, stream=True))[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(("stop", "said"), [(["make"], "Flour, water and salt "), ("salt make", "Flour, water and ")])
def test_a_stop_sequence_ends_the_text_before_it_also_between_two_pieces(client, stop, said):
    assert ask(client, stop=stop).choices[0].message.content == said
    pieces = list(ask(client, stop=stop, stream=True))
    assert text(pieces) == said
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert pieces[-1].llm_twin["trace_id"] == "trace-1"


def test_a_stop_sequence_that_never_comes_changes_nothing(client):
    assert text(ask(client, stop=["never", "bread!"], stream=True)) == "Flour, water and salt make bread [1]."


def test_the_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["llm-twin", "scripted"]
    assert client.models.retrieve("scripted").owned_by == "llm-twin"
    assert client.chat.completions.create(model="scripted", messages=HELLO).model == "scripted"


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-99", messages=HELLO)
    assert error.value.code == "model_not_found"
    assert "there is: llm-twin, scripted" in str(error.value)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-99")


@pytest.mark.parametrize(
    ("messages", "options", "param", "words"),
    [
        ([], {}, "messages", "at least 1"),
        ([{"role": "assistant", "content": "x"}], {}, "messages[0].role", "the last message must be the user's"),
        ([{"role": "king", "content": "x"}], {}, "messages[0].role", "'system', 'developer', 'user'"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], {}, None, "type"),
        (HELLO, {"n": 2}, "n", "1"),
        (HELLO, {"temperature": 3}, "temperature", "less than or equal to 2"),
        (HELLO, {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (HELLO, {"stop": list("abcde")}, "stop", "at most 4 stop sequences"),
        (HELLO, {"stream": "often"}, "stream", "boolean"),
    ],
)
def test_a_wrong_field_is_named(client, messages, options, param, words):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, messages, extra_body=options)
    assert error.value.type == "invalid_request_error"
    assert param is None or error.value.param == param
    assert words in str(error.value)


@pytest.mark.parametrize(
    "many",
    [
        {"messages": [{"role": "user", "content": [{}] * 100_000}]},
        {"messages": [{}] * 100_000},
        {"messages": HELLO, "stop": [1] * 100_000},
    ],
)
def test_a_thousand_mistakes_are_not_looked_for_when_there_are_too_many_things(many):
    """Each would cost the event loop time, and a megabyte of them seconds."""
    with pytest.raises(ValidationError) as error:
        ChatRequest.model_validate({"model": "llm-twin", **many})
    assert error.value.error_count() <= 2


def test_an_empty_question_and_a_conversation_that_is_too_long_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="the question is empty"):
        ask(client, [{"role": "user", "content": " "}])
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, [{"role": "user", "content": "x" * 2_001}])
    assert error.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_down_before_the_first_word_is_a_status(client, service, stream):
    service.broken = ModelUnavailable("http://10.0.0.3:9/v1 refuses", retry_after=7)
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, stream=stream)
    assert error.value.status_code == 503
    assert error.value.code == "model_unavailable"
    assert error.value.response.headers["retry-after"] == "7"
    assert "10.0.0.3" not in str(error.value)
    service.broken = StoreUnavailable("/srv/vectors cannot be read")
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, stream=stream)
    assert error.value.code == "store_unavailable"
    assert "/srv" not in str(error.value)


def test_a_model_that_fails_half_way_is_an_error_in_the_stream_and_a_status_without(client, service):
    service.script = ("Flour ", ModelUnavailable("it hung up"))
    pieces = iter(ask(client, stream=True))
    assert [next(pieces).choices[0].delta.content for _ in range(2)] == ["", "Flour "]
    with pytest.raises(openai.APIError, match="it hung up"):
        next(pieces)
    with pytest.raises(openai.InternalServerError, match="it hung up"):
        ask(client)


def test_the_client_retries_by_itself_what_may_be_tried_again(client, service):
    service.broken = ModelUnavailable("starting", retry_after=0.01)
    patient = client.with_options(max_retries=1)
    with pytest.raises(openai.InternalServerError):
        ask(patient)
    assert len(service.questions) == 2
