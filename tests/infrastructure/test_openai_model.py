"""An OpenAI-compatible server over a real socket: what it may do, and what a person is told then."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

import pytest
from loopback import Answer
from openai_endpoint import STREAM, Endpoint, event, events, failure, stream

from llm_engineering.domain.answers import Message, Role, Usage
from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.domain.prompts import Prompt
from llm_engineering.infrastructure.language_models.openai import OpenAIModel

KEY = "sk-very-secret-1234"
PROMPT = Prompt(
    question="q",
    messages=(Message(role=Role.SYSTEM, content="Be brief."), Message(role=Role.USER, content="What is bread?")),
)


@pytest.fixture
def endpoint(new_site):
    return Endpoint(new_site())


def a_model(endpoint, *, timeout: float = 20.0, retries: int = 2, first_backoff: float = 0.01) -> OpenAIModel:
    return OpenAIModel(
        "tiny", base_url=endpoint.url, api_key=KEY, timeout=timeout, retries=retries, first_backoff=first_backoff
    )


def pieces_of(model, **options) -> list:
    return list(model.stream(PROMPT, max_tokens=50, **options))


def test_the_answer_streams_and_the_servers_own_count_is_kept(endpoint):
    endpoint.says(["Bread ", "is ", "food."])
    assert pieces_of(a_model(endpoint)) == ["Bread ", "is ", "food.", Usage(prompt_tokens=11, completion_tokens=7)]
    [request] = endpoint.requests
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert (request["max_tokens"], request["temperature"], request["model"]) == (50, 0.0, "tiny")


def test_without_a_count_tokens_are_estimated_and_marked_so(endpoint):
    endpoint.says("four" * 5, usage=None)
    *_, usage = pieces_of(a_model(endpoint))
    assert usage == Usage(prompt_tokens=6, completion_tokens=5, estimated=True)


def test_reasoning_beside_the_answer_is_left_out(endpoint):
    thinking = [event(delta={"reasoning_content": "hmm"}), event(delta={"role": "assistant", "content": None})]
    endpoint.answers(lambda request: Answer(headers=STREAM, body=[*thinking, *events(["Bread."])]))
    assert pieces_of(a_model(endpoint))[0] == "Bread."


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_or_broken_server_is_asked_again(endpoint, status):
    endpoint.then(failure(status), failure(status))
    assert pieces_of(a_model(endpoint))[0] == "Hello."
    assert len(endpoint.requests) == 3


def test_tries_come_to_an_end(endpoint):
    endpoint.answers(failure(500, "boom"))
    with pytest.raises(ModelUnavailable, match=r"tiny at http://127\S+ answered HTTP 500 \(boom\): ask again later"):
        pieces_of(a_model(endpoint, retries=1))
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    "wait", ["500", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)], ids=["seconds", "date"]
)
def test_a_long_retry_after_is_handed_on_instead_of_waited_out(endpoint, wait):
    endpoint.answers(failure(429, Retry_After=wait))
    with pytest.raises(ModelUnavailable) as caught:
        pieces_of(a_model(endpoint))
    assert caught.value.retry
    assert 400 < (caught.value.retry_after or 0) < 3700
    assert len(endpoint.requests) == 1


def test_retry_after_is_followed(endpoint):
    endpoint.then(failure(429, Retry_After="0"))
    assert pieces_of(a_model(endpoint, first_backoff=1000.0))[0] == "Hello."


def test_a_refused_key_is_named_by_its_setting_and_never_shown(endpoint):
    endpoint.answers(failure(401, f"Incorrect API key provided: {KEY}"))
    with pytest.raises(ModelUnavailable, match="TWIN_OPENAI_API_KEY") as caught:
        pieces_of(a_model(endpoint))
    assert not caught.value.retry
    assert KEY not in str(caught.value)
    assert KEY not in repr(vars(caught.value))
    assert len(endpoint.requests) == 1


def test_a_password_in_the_address_is_never_shown():
    model = OpenAIModel("tiny", base_url="http://ann:hunter2@127.0.0.1:9/v1?k=hunter2", retries=0)
    with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
        pieces_of(model)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("option", ["stream_options", "max_tokens", "temperature"])
def test_an_option_the_server_does_not_know_is_left_out(endpoint, option):
    endpoint.then(failure(400, f"Unsupported parameter: '{option}'"))
    model = a_model(endpoint)
    assert pieces_of(model)[0] == "Hello."
    assert option not in endpoint.requests[1]
    assert pieces_of(model)[0] == "Hello."  # and it is remembered
    assert len(endpoint.requests) == 3
    assert option != "max_tokens" or endpoint.requests[1]["max_completion_tokens"] == 50


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' is too large: 50. This model's maximum context length is 40 tokens",
        "temperature must be at least 0.1",
    ],
)
def test_a_refused_value_is_told_and_the_option_stays(endpoint, message):
    endpoint.then(failure(400, message))
    model = a_model(endpoint)
    with pytest.raises(ModelUnavailable, match="HTTP 400"):
        pieces_of(model)
    assert pieces_of(model)[0] == "Hello."
    assert [{"max_tokens", "temperature"} <= set(request) for request in endpoint.requests] == [True, True]


def test_an_option_refused_the_way_of_pydantic_is_left_out(endpoint):
    detail = '{"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}'
    endpoint.then(lambda request: Answer(422, detail, {"Content-Type": "application/json"}))
    assert pieces_of(a_model(endpoint))[0] == "Hello."


def test_a_refused_request_is_not_tried_again(endpoint):
    endpoint.answers(failure(400, "maximum context length is 512 tokens"))
    with pytest.raises(ModelUnavailable, match="maximum context length") as caught:
        pieces_of(a_model(endpoint))
    assert not caught.value.retry
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"data: {garbage\n\n", b"<html>hello</html>", b'data: [1, 2]\n\n', b'data: {"choices": "x"}\n\n',
     b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', b"\x00\xff\xfe", b'{"object": "chat.completion"}',
     b'data: {"choices": [{"delta": "x"}]}\n\n', b"data: 7\n\n", b"data: " + b"[" * 100_000 + b"\n\n",
     b'data: {"a": 1}\n\n'],
)  # fmt: skip
def test_garbage_is_no_answer(endpoint, body):
    endpoint.answers(lambda request: Answer(headers=STREAM, body=body))
    with pytest.raises(ModelUnavailable, match="no chat completion: is the address right"):
        pieces_of(a_model(endpoint, retries=0))


@pytest.mark.parametrize("body", [b"", b": ping\n\n", b'data: {"choices": [{"delta": {"content": "Bre'])
def test_an_answer_that_ends_before_it_began_broke_off(endpoint, body):
    endpoint.answers(lambda request: Answer(headers=STREAM, body=body))
    with pytest.raises(ModelUnavailable, match="broke off"):
        pieces_of(a_model(endpoint, retries=0))


def test_a_stream_may_hold_comments_names_and_any_line_ends(endpoint):
    hello = event(delta={"content": "Hello."}).replace(b"\n\n", b"\r\n\r\n")
    end = event(delta={}, finish="stop")
    whole = b": waiting\r\n\r\nevent: message\nid: 1\nretry: 5\n" + hello + end + b"data:[DONE]\n\ndata: {garbage\n"
    endpoint.answers(lambda request: Answer(headers=STREAM, body=(bytes([one]) for one in whole)))
    assert pieces_of(a_model(endpoint))[0] == "Hello."


def test_a_line_without_an_end_is_given_up(endpoint):
    endpoint.answers(lambda request: Answer(headers=STREAM, body=(b"data: " + b"x" * 2**16 for _ in count())))
    with pytest.raises(ModelUnavailable, match="no chat completion"):
        pieces_of(a_model(endpoint, retries=0))


def test_nobody_reads_on_after_the_reader_left(endpoint):
    """A server may keep a connection alive with comments for as long as it likes."""
    hung_up = threading.Event()

    def alive():
        try:
            yield event(delta={"content": "Bread"})
            while True:
                yield b": still here\n\n"
        finally:
            hung_up.set()

    endpoint.answers(lambda request: Answer(headers=STREAM, body=alive()))
    pieces = a_model(endpoint).stream(PROMPT, max_tokens=5)
    assert next(pieces) == "Bread"
    pieces.close()
    assert hung_up.wait(60)


def test_an_error_inside_the_stream_is_told(endpoint):
    body = b'data: {"error": {"message": "overloaded"}}\n\n'
    endpoint.answers(lambda request: Answer(headers=STREAM, body=body))
    with pytest.raises(ModelUnavailable, match="overloaded"):
        pieces_of(a_model(endpoint, retries=0))


@pytest.mark.parametrize("announced", [True, False])
def test_half_a_stream_gives_what_came_and_then_raises_without_another_try(endpoint, announced):
    length = {"Content-Length": "5000"} if announced else {}
    close = [b"".join(events(["Bread is ", "foo"], finish=None))]
    endpoint.answers(lambda request: Answer(headers=STREAM | length, body=close))
    stream_ = a_model(endpoint).stream(PROMPT, max_tokens=50)
    assert [next(stream_), next(stream_)] == ["Bread is ", "foo"]
    with pytest.raises(ModelUnavailable, match="broke off in the middle"):
        next(stream_)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("finish", "mend"), [("stop", "ask again"), ("length", "max_tokens"), ("content_filter", "other words")]
)
def test_an_empty_answer_is_no_answer(endpoint, finish, mend):
    endpoint.answers(lambda request: stream([], finish=finish))
    with pytest.raises(ModelUnavailable, match=mend):
        pieces_of(a_model(endpoint))


def test_a_silent_server_is_given_up_after_the_time_out_and_not_asked_again(endpoint):
    release = threading.Event()
    endpoint.answers(lambda request: (release.wait(20), stream(["late"]))[1])
    with pytest.raises(ModelUnavailable, match=r"said nothing for 0.3 s"):
        pieces_of(a_model(endpoint, timeout=0.3))
    release.set()
    assert len(endpoint.requests) == 1


def test_silence_in_the_middle_is_given_up_too(endpoint):
    release = threading.Event()

    def half():
        yield event(delta={"content": "Bread"})
        release.wait(20)

    endpoint.answers(lambda request: Answer(headers=STREAM, body=half()))
    stream_ = a_model(endpoint, timeout=3.0).stream(PROMPT, max_tokens=5)
    assert next(stream_) == "Bread"
    with pytest.raises(ModelUnavailable, match=r"said nothing for 3 s"):
        next(stream_)
    release.set()


def test_stop_is_heard_while_the_server_is_silent(endpoint):
    asked, release = threading.Event(), threading.Event()

    def silent(request):
        asked.set()
        release.wait(30)
        return stream(["late"])

    endpoint.answers(silent)
    assert pieces_of(a_model(endpoint, timeout=60), stop=asked.is_set) == []
    release.set()


def test_stop_is_heard_between_two_tries(endpoint):
    endpoint.answers(failure(500))
    assert pieces_of(a_model(endpoint, first_backoff=1000.0), stop=lambda: len(endpoint.requests) > 0) == []


def test_nobody_there_says_which_setting_to_correct(new_site):
    gone = new_site()
    gone.close()
    with pytest.raises(ModelUnavailable, match="TWIN_OPENAI_BASE_URL") as caught:
        pieces_of(a_model(Endpoint(gone), retries=1))
    assert caught.value.retry


def test_check_names_the_models_there_are(endpoint):
    assert "tiny at http" in a_model(endpoint).check()
    assert endpoint.requests == []
    endpoint.answers(failure(404, "The model `huge` does not exist."))
    with pytest.raises(ModelUnavailable, match=r"has no model huge; it has tiny: set TWIN_LANGUAGE_MODEL") as caught:
        OpenAIModel("huge", base_url=endpoint.url).check()
    assert not caught.value.retry


def test_check_believes_an_answer_more_than_the_list(endpoint):
    """Ollama lists `tiny:latest` and answers to `tiny`; llama.cpp lists a file and answers to anything."""
    assert "tiny:7b at http" in OpenAIModel("tiny:7b", base_url=endpoint.url).check()
    endpoint.answers(lambda request: stream([], finish="length"))  # a reasoning model does not get far with one token
    assert "thinker at http" in OpenAIModel("thinker", base_url=endpoint.url).check()
    endpoint.answers(failure(503, "loading"))
    with pytest.raises(ModelUnavailable, match=r"HTTP 503 \(loading\)"):
        OpenAIModel("thinker", base_url=endpoint.url, retries=0).check()
    endpoint.answers(lambda request: Answer(headers=STREAM, body=b""))
    with pytest.raises(ModelUnavailable, match="no chat completion"):
        OpenAIModel("thinker", base_url=endpoint.url).check()


def test_check_asks_for_a_token_where_no_models_are_listed(new_site):
    site = new_site()
    endpoint = Endpoint(site)
    site.remove("/v1/models")
    assert "answers" in a_model(endpoint).check()
    assert endpoint.requests[0]["max_tokens"] == 1


def test_check_of_a_server_that_refuses_says_so(new_site):
    site = new_site()
    endpoint = Endpoint(site)
    site.page("/v1/models", "{}", status=401, media="application/json")
    with pytest.raises(ModelUnavailable, match="HTTP 401"):
        a_model(endpoint).check()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "needs a model"),
        ("x", {"base_url": "ftp://x"}, "BASE_URL"),
        ("x", {"base_url": "http://ann:hunter2@host:port/v1"}, "BASE_URL"),
        ("x", {"base_url": "http://[broken/v1"}, "BASE_URL"),
        ("x", {"base_url": "http://a host/v1"}, "BASE_URL"),
        ("x", {"base_url": "https://api.openai.com/v1"}, "TWIN_OPENAI_API_KEY; for a server of your own"),
        ("x", {"timeout": 0.0}, "TIMEOUT"),
        ("x", {"timeout": float("nan")}, "TIMEOUT"),
        ("x", {"timeout": float("inf")}, "TIMEOUT"),
    ],
)
def test_wrong_settings_are_named(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        OpenAIModel(name, **{"base_url": "http://127.0.0.1:1/v1"} | options)
    assert "hunter2" not in str(caught.value)
