"""The official `openai` client, unchanged, against a real server."""

import openai
import pytest
from api_service import ScriptedService, serving

from llm_engineering.infrastructure.api.app import create_app

HELLO = [{"role": "user", "content": "What makes bread?"}]


@pytest.fixture
def service():
    return ScriptedService()


@pytest.fixture
def client(service):
    with (
        serving(create_app(service)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as it,
    ):
        yield it


def test_an_answer_comes_with_usage_sources_and_citations(client):
    done = client.chat.completions.create(model="llm-twin", messages=HELLO)
    assert done.choices[0].message.content == "Flour, water and salt make bread [1]."
    assert done.choices[0].finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 5, 12)
    facts = done.llm_twin
    assert facts["trace_id"] == "trace-1"
    assert facts["sources"][0]["title"] == "Baking"
    assert facts["citations"] == [{"source": 1, "quote": "Flour", "start": 7, "end": 12}]


def test_a_streamed_answer_comes_in_pieces_and_ends_with_its_sources(client):
    pieces = list(client.chat.completions.create(model="llm-twin", messages=HELLO, stream=True))
    assert [piece.choices[0].delta.content for piece in pieces] == [
        "", "Flour, water and salt ", "make bread [1].", None,
    ]  # fmt: skip
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert pieces[-1].llm_twin["sources"][0]["number"] == 1
    assert {piece.usage for piece in pieces} == {None}
    assert len({piece.id for piece in pieces}) == 1


def test_a_stream_counts_tokens_when_asked_to(client):
    *_, last = client.chat.completions.create(
        model="llm-twin", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage.total_tokens == 12
