"""The quickstart's index, behind the server that `poe serve` starts: in a browser, and to OpenAI's own client."""

import signal

import openai
import pytest
from chat_reader import Reader
from chromium_page import chromium
from click.testing import CliRunner
from serve_process import extension_of, started, when_ready

from llm_engineering.infrastructure.fetchers.chromium import find_browser
from tools.quickstart import quickstart

pytest.importorskip("gradio", reason="the group ui is not installed")
QUESTION = "Why does a processor wait for memory?"
PAGE = "why-cpus-wait"


@pytest.fixture
def address():
    made = CliRunner().invoke(quickstart, [])
    assert made.exit_code == 0, made.output
    with started() as (process, address):
        when_ready(address)
        yield address
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.browser
def test_after_the_quickstart_the_server_answers_in_the_browser_and_to_openais_client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none-needed-here", max_retries=0) as client:
        assert "llm-twin" in [model.id for model in client.models.list()]
        done = client.chat.completions.create(model="llm-twin", messages=[{"role": "user", "content": QUESTION}])
        details = extension_of(done)
        assert any(PAGE in source["url"] for source in details["sources"])
        assert details["citations"]
        pieces = client.chat.completions.create(
            model="llm-twin", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        said = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert said == done.choices[0].message.content
    if find_browser() is None:
        pytest.skip("no Chromium with chromedriver on this machine")
    with chromium() as driver:
        reader = Reader(driver, address)
        reader.open()
        reader.ask(QUESTION)
        reader.answered()
        assert reader.see("#now .text").text.startswith(said.partition(" [")[0])
        reader.click("#now a.cite", "1")
        assert reader.see("ol.sources .link a").text == details["sources"][0]["url"]
