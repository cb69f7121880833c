"""`poe serve` and `poe serve-keys`, as a person meets them."""

import signal
import socket
from datetime import UTC, datetime, timedelta

import httpx
import openai
import pytest
from click.testing import CliRunner
from passages import fill, passage
from serve_process import extension_of, started, when_ready

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.serving.api.keys import key_ring
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.server import is_loopback, limits_of, process_count
from llm_engineering.settings import Settings, load_settings
from tools.serve import main

QUESTION = "What do flour, water and salt make?"


@pytest.fixture(autouse=True)
def _hashing(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def indexed():
    with open_platform() as platform:
        chunk = passage(0, document=0, text="Flour, water and salt make a very good bread.", title="Baking")
        [vector] = platform.embedder.embed([chunk.text])
        fill(platform.vectors, [EmbeddedChunk(chunk, vector)], spec=IndexSpec(embedding=platform.embedder.spec))


@pytest.mark.usefixtures("indexed")
def test_it_answers_openais_client_and_ends_in_order_when_told_to():
    with started() as (process, address):
        assert [piece["ready"] for piece in when_ready(address).json()["pieces"]] == [True, True, True]
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        done = client.chat.completions.create(model="llm-twin", messages=[{"role": "user", "content": QUESTION}])
        assert "make a very good bread" in (done.choices[0].message.content or "")
        assert extension_of(done)["sources"][0]["title"] == "Baking"
        pieces = client.chat.completions.create(
            model="llm-twin", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        said = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert said == done.choices[0].message.content
        client.close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "POST /v1/chat/completions 200" in log
        assert "/ready" not in log
        assert "Traceback" not in log


def test_another_host_than_loopback_is_refused_without_a_key():
    result = run("--host", "0.0.0.0", "--port", "0")
    assert result.exit_code == 2
    assert "needs API keys, and there is no active one: make one with `poe serve-keys add TEAM`" in result.output
    assert run("--require-keys", "--port", "0").exit_code == 2


@pytest.mark.usefixtures("indexed")
def test_on_another_host_only_a_key_opens_the_door():
    secret = run("keys", "add", "ann").stdout.strip()
    with started("--host", "0.0.0.0") as (_, said):
        address = said.replace("0.0.0.0", "127.0.0.1")
        when_ready(address)
        assert httpx.post(f"{address}/search", json={"question": QUESTION}).status_code == 401
        key = {"Authorization": f"Bearer {secret}"}
        assert httpx.post(f"{address}/search", json={"question": QUESTION}, headers=key).status_code == 200
        assert run("keys", "revoke", key_ring(load_settings()).all()[0].id).exit_code == 0
        assert httpx.post(f"{address}/search", json={"question": QUESTION}, headers=key).status_code == 401


@pytest.mark.usefixtures("indexed")
def test_how_large_a_request_may_be_is_a_setting(monkeypatch):
    monkeypatch.setenv("TWIN_API_MAX_BODY_BYTES", "300")
    with started() as (_, address):
        when_ready(address)
        assert httpx.post(f"{address}/search", json={"question": QUESTION}).status_code == 200
        assert httpx.post(f"{address}/search", json={"question": "x" * 300}).status_code == 413


def test_an_address_that_is_taken_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "choose another with --host or --port" in result.output
    assert run("--host", "no.such.host.invalid", "--require-keys").exit_code == 2


def test_a_wrong_setting_stops_it(monkeypatch):
    monkeypatch.setenv("TWIN_API_PROT", "1")
    result = run()
    assert result.exit_code == 2
    assert "did you mean TWIN_API_PORT" in result.output
    monkeypatch.delenv("TWIN_API_PROT")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "extravagant")
    result = run("--port", "0")
    assert result.exit_code == 2
    assert "TWIN_LANGUAGE_MODEL=extravagant: use extractive, openai:MODEL" in result.output


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("twin.example", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_world(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("model", "generative", "asked_for", "count"),
    [
        ("extractive", False, 3, 3),
        ("openai:x", True, 0, 2),
        ("openai:x", True, 3, 3),
        ("openai:x", True, 64, Limits().threads),
        ("transformers:x", True, 3, 1),
        ("registry:x", True, 0, 1),
    ],
)
def test_a_model_that_is_in_memory_here_is_there_once(model, generative, asked_for, count):
    settings = Settings(api_processes=asked_for, language_model=model)
    assert process_count(settings, generative=generative) == count
    assert limits_of(settings, count, generative=generative).threads == (Limits().threads if generative else count)


def test_keys_are_made_shown_once_listed_and_revoked():
    made = run("keys", "add", "Search [team]", "--rate", "30", "--quota", "1000", "--expires", "90d")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    [key] = key_ring(load_settings()).all()
    assert key_ring(load_settings()).find(secret) == key
    assert key.expires is not None
    assert key.expires - datetime.now(UTC) > timedelta(days=89)
    listed = run("keys", "list").output
    for shown in (key.id, "Search [team]", "active", "30", "1000"):
        assert shown in listed
    assert secret not in listed
    assert f"key {key.id} of Search [team] is revoked" in run("keys", "revoke", key.id).output
    assert "revoked" in run("keys", "list").output


@pytest.mark.parametrize(("text", "end"), [("2999-01-31", "2999-01-31 00:00"), ("2999-01-31T10:00:00+02:00", "10:00")])
def test_a_key_may_end_on_a_day(text, end):
    assert run("keys", "add", "a", "--expires", text).exit_code == 0
    assert end in run("keys", "list").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "a", "--expires", "soon"), "write a day as 2027-01-31"),
        (("add", "a", "--expires", "2001-01-01"), "would have expired"),
        (("add", " "), "at least 1 character"),
        (("revoke", "nothing"), "no key to revoke has the id 'nothing'"),
        (("add", "a", "--rate", "0"), "0 is not in the range"),
    ],
)
def test_a_key_command_that_makes_no_sense_says_why(arguments, words):
    result = run("keys", *arguments)
    assert result.exit_code == 2
    assert words in result.output
