"""The chat page in a real headless Chromium, served by a real server on loopback."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from api_service import serving
from chat_reader import Reader
from chat_service import FACETS, TITLES, MiniatureService
from chromium_page import chromium
from loguru import logger
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from waiting import SECONDS, until

from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.errors import ModelUnavailable, StoreUnavailable
from llm_engineering.infrastructure.feedback import JsonlFeedback
from llm_engineering.infrastructure.fetchers.chromium import find_browser
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.keys import KeyRing
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.api.service import Component, Readiness
from llm_engineering.serving.chat import deferred_app, mount_chat
from llm_engineering.serving.chat.deferred_app import DeferredApp

pytest.importorskip("gradio", reason="the group ui is not installed")
browser = pytest.mark.usefixtures("needs_browser")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def needs_browser():
    if find_browser() is None:
        pytest.skip("no Chromium with chromedriver on this machine")


@pytest.fixture(scope="module")
def one_service():
    return MiniatureService()


@pytest.fixture(scope="module")
def address(one_service):
    app = create_app(one_service)
    mount_chat(app, facets=one_service.facets, titles=one_service.titles)
    with serving(app, timeout_graceful_shutdown=1) as url:
        until(lambda: httpx.get(url).status_code == 200)
        yield url


@pytest.fixture(scope="module")
def one_driver(needs_browser):
    with chromium() as driver:
        yield driver


@pytest.fixture
def service(one_service, tmp_path):
    one_service.go.set()  # whoever still waits from the test before
    one_service.__init__()
    one_service.book = JsonlFeedback(tmp_path / "feedback.jsonl")
    return one_service


@pytest.fixture
def reader(one_driver, address, service):
    """Someone with the page before them."""
    one_driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    one_driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    one_driver.get(address)
    one_driver.execute_script("localStorage.clear()")
    made = Reader(one_driver, address)
    made.open()
    return made


# --- asking --------------------------------------------------------------------------------------------------------


@browser
def test_an_answer_is_seen_while_it_is_written_and_then_whole(reader, service):
    service.hold = True
    reader.ask("How should I cut a text?")
    reader.see("#now .writing", "where its author paused")
    reader.see("#now .asked", "How should I cut a text?")
    assert "BM25" not in reader.see("#now .writing .text").text
    service.go.set()
    reader.answered()
    assert "Keep both" in reader.see("#now .text").text
    assert reader.find("#now .writing") == []
    assert "trace-1" in reader.see("#now .trace").text
    assert "1 citation could not be verified" in reader.see("#now .notes").text


@browser
def test_a_click_on_a_citation_shows_the_quoted_words_in_their_source(reader):
    reader.ask("How should I cut a text?")
    reader.answered()
    assert reader.find("ol.sources blockquote") == []
    reader.click("#now a.cite", "2")
    assert reader.see("ol.sources blockquote mark").text == "BM25 finds them"
    reader.click("#now a.cite", "1")
    assert reader.see("ol.sources mark", "at headings").text == "at headings first, then at paragraphs"
    source = reader.see("ol.sources > li")
    for words in ("Cut along the grain", "Ada Example", "2025-01-03", "article", "In practice"):
        assert words in source.text
    [link] = [one for one in reader.find("ol.sources .link a") if one.text.endswith("/1")]
    assert link.get_attribute("href") == "https://example.com/1"
    assert "noopener" in link.get_attribute("rel")


@browser
def test_hostile_pages_are_shown_as_text(reader):
    reader.script("window.alert = () => { window.hacked = true }")
    reader.ask("What is hostile?")
    reader.answered()
    reader.click("ol.sources > li:nth-child(3) summary")
    assert "<img src=x onerror=alert(1)>" in reader.see("ol.sources > li:nth-child(3) blockquote").text
    assert "looks like instructions" in reader.see("ol.sources .warning").text
    assert "javascript:alert(1)" in reader.see("ol.sources > li:nth-child(3) .link").text
    assert reader.find("ol.sources > li:nth-child(3) a") == []
    assert reader.script("return window.hacked === undefined")
    assert reader.script("return document.querySelectorAll('#now script, #now img').length") == 0


@browser
def test_the_conversation_goes_along_and_stays_on_the_page(reader, service):
    reader.ask("First?")
    reader.answered()
    reader.ask("And then?")
    reader.see("#past", "First?")
    reader.see("#now .asked", "And then?")
    reader.answered()
    assert service.questions[1].history[0].content == "First?"
    assert len(service.questions[1].history) == 2
    ids = reader.script("return [...document.querySelectorAll('ol.sources > li')].map(e => e.id)")
    assert len(set(ids)) == 6


@browser
def test_an_example_made_from_the_index_can_be_asked_with_one_click(reader, service):
    reader.click("#examples button", TITLES[0])
    reader.answered()
    assert TITLES[0] in service.questions[0].text
    assert reader.find("#examples button") == []


@browser
def test_filters_offer_what_the_index_holds_and_are_sent(reader, service):
    from selenium.webdriver.common.keys import Keys

    reader.click("#filters button")
    reader.see("#authors input").send_keys("Ben", Keys.ENTER)
    reader.see("#authors", "Ben Beispiel")
    reader.see("#since input, #since textarea").send_keys("2025-01-01")
    reader.ask("Filtered?")
    reader.answered()
    where = service.questions[0].where
    assert where.author_id == ("ben",)
    assert where.published_from.isoformat() == "2025-01-01T00:00:00+00:00"
    assert where.kind is None


@browser
def test_a_wrong_date_is_told(reader, service):
    reader.click("#filters button")
    reader.see("#until input, #until textarea").send_keys("soon")
    reader.ask("When?")
    assert "is no day: write it as 2026-01-31" in reader.see("#now .failed").text
    assert service.questions == []


@browser
def test_stopping_ends_the_model_and_keeps_what_was_written(reader, service):
    service.hold = True
    reader.ask("Long?")
    reader.see("#now .writing", "where its author paused")
    reader.click("#question button", "Stop")
    reader.see("#now .stopped")
    assert until(service.closed.is_set)
    assert "where its author paused" in reader.see("#now").text
    service.hold = False
    reader.ask("Again?")
    reader.answered()
    assert "where its author paused" in reader.see("#past", "Long?").text


# --- feedback ------------------------------------------------------------------------------------------------------


@browser
def test_thumbs_and_comment_are_stored_with_question_answer_and_trace(reader, service):
    reader.ask("How should I cut a text?")
    reader.answered()
    reader.click("#down")
    reader.see("#thanks", "stored")
    [first] = service.book.all()
    assert (first.trace_id, first.thumbs_up, first.question) == ("trace-1", False, "How should I cut a text?")
    assert first.answer.startswith("Cut a text **where its author paused**")
    reader.see("#comment textarea, #comment input").send_keys("Too short 🙂 <b>")
    reader.click("#comment button", "Send")
    assert until(lambda: len(list(service.book.all())) == 2)
    assert list(service.book.all())[1].comment.startswith("Too short")
    until(lambda: not reader.find("#comment textarea, #comment input"))


@browser
def test_feedback_that_cannot_be_stored_is_told(reader, service, tmp_path):
    reader.ask("How?")
    reader.answered()
    service.book = JsonlFeedback(tmp_path)  # a folder
    reader.click("#up")
    assert "cannot be reached" in reader.see("#thanks .failed").text


# --- errors --------------------------------------------------------------------------------------------------------


@browser
@pytest.mark.parametrize(
    ("error", "early", "words"),
    [
        (ModelUnavailable("it refuses connections; start it"), True, "the language model cannot answer"),
        (ModelUnavailable("it stopped half-way"), False, "it stopped half-way"),
        (StoreUnavailable("the vector store is away"), True, "a store this server needs"),
        (ZeroDivisionError("bug"), True, "something went wrong in the server"),
    ],
)
def test_errors_are_told_in_the_page_and_the_next_question_works(reader, service, error, early, words):
    service.error, service.early = error, early
    reader.ask("How?")
    assert words in reader.see("#now [role=alert]").text
    assert bool(reader.find("#now .text")) is not early
    assert reader.find("#up") == [], "there is nothing to judge"
    service.error = None
    reader.ask("And now?")
    reader.answered()
    assert words in reader.see("#past [role=alert]").text


@browser
def test_what_is_missing_is_told_before_anything_is_asked(reader, service):
    def opens_with(css, words):
        def look():  # more than once: readiness is believed for a second
            reader.open()
            return [one for one in reader.find(css) if words in one.text]

        assert until(look)

    service.contents = Facets()
    opens_with("#welcome .card", "poe run-etl")
    service.readiness = Readiness(
        components=(Component(name="embedder", ready=False, reason="it is still being loaded"),)
    )
    opens_with("#welcome .card", "embedder: it is still being loaded")
    service.readiness, service.contents = Readiness(components=()), StoreUnavailable("x")
    opens_with("#welcome [role=alert]", "a store this server needs")
    service.contents = FACETS
    opens_with("#welcome .card", "Ada Example")


# --- looks ---------------------------------------------------------------------------------------------------------


@browser
def test_on_a_phone_nothing_is_wider_than_the_screen(reader, service):
    service.pieces = (
        "An-unbroken-" + "word" * 60 + " [1]\n\n",
        "| " + " | ".join("column" * 3 for _ in range(9)) + " |",
    )
    reader.phone()
    reader.open()
    wide = "return document.documentElement.scrollWidth - window.innerWidth"
    assert reader.script(wide) <= 0
    reader.click("#filters button")
    reader.see("#since input, #since textarea")
    assert reader.script(wide) <= 0
    reader.ask("Wide " * 30 + "w" * 200)
    reader.answered()
    reader.click("#now a.cite", "1")
    reader.see("ol.sources blockquote")
    assert reader.script(wide) <= 0
    box = reader.see("#question textarea").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


BACKGROUND = (
    "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
)


@browser
def test_dark_and_light_can_be_chosen_and_stay_where_of(reader):
    bright = reader.script(BACKGROUND)
    reader.click("#theme")
    assert bright > 600
    assert until(lambda: reader.script(BACKGROUND) < 200)
    reader.open()
    assert until(lambda: reader.script(BACKGROUND) < 200)
    reader.click("#theme")
    assert until(lambda: reader.script(BACKGROUND) == bright)


@browser
def test_the_systems_dark_mode_is_followed(reader):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    reader.open()
    assert until(lambda: reader.script(BACKGROUND) < 200)


@browser
def test_nothing_is_fetched_from_anywhere_else(reader, address):
    reader.driver.get_log("performance")
    reader.driver.get_log("browser")  # of the tests before, which left answers half-way
    reader.open()
    reader.ask("How?")
    reader.answered()
    asked = [json.loads(entry["message"])["message"] for entry in reader.driver.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    elsewhere = {url for url in urls if not url.startswith((address, "data:", "blob:", "chrome:"))}
    assert urls
    assert elsewhere == set()
    errors = [entry["message"] for entry in reader.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


# --- the doors -----------------------------------------------------------------------------------------------------


def test_only_what_the_page_needs_of_gradio_is_open(address):
    with httpx.Client(base_url=address) as client:
        assert client.get("/config").status_code == 200
        for path in (
            "/gradio_api/file=/etc/hostname",
            "/gradio_api/info/",
            "/monitoring",
            "/login",
            "/gradio_api/runs",
        ):
            assert client.get(path).status_code == 404, path
        for path in ("/gradio_api/upload", "/gradio_api/run/ask", "/gradio_api/call/ask", "/login"):
            assert client.post(path, json={}).status_code == 404, path


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:1", "http://evil.example", "null"])
def test_the_pages_routes_answer_no_other_page(address, origin):
    with httpx.Client(base_url=address) as client:
        for path in ("/", "/config", "/gradio_api/info", "/gradio_api/startup-events"):
            headers = client.get(path, headers={"Origin": origin}).headers
            assert not [name for name in headers if name.startswith("access-control")], path
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        assert not [
            name for name in client.options("/gradio_api/queue/join", headers=asked).headers if "access-control" in name
        ]
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 422), ("none", 422)):
            told = client.post("/gradio_api/cancel", json={}, headers={"Origin": origin, "Sec-Fetch-Site": site})
            assert told.status_code == status


def test_more_than_the_page_ever_sends_is_not_read(address):
    body = {"data": [{}] * 100_000, "fn_index": 0, "session_hash": "x"}
    with httpx.Client(base_url=address) as client:
        assert client.post("/gradio_api/queue/join", json=body).status_code == 413
        assert client.post("/gradio_api/queue/join", content=(b"[" for _ in range(10))).status_code == 413
        deep = b'{"data": ' + b"[" * 90_000
        told = client.post("/gradio_api/queue/join", content=deep, headers={"Content-Type": "application/json"})
        assert told.status_code in (400, 422)
        assert client.get("/health").status_code == 200


def test_open_pages_leave_connections_to_others(address, monkeypatch):
    monkeypatch.setattr(deferred_app, "MAX_STREAMS", 0)
    assert httpx.get(f"{address}/gradio_api/heartbeat/x").status_code == 503
    assert httpx.get(f"{address}/gradio_api/queue/data?session_hash=x").status_code == 503
    assert httpx.get(address).status_code == 200


def test_every_page_says_what_it_may_load(address):
    page = httpx.get(address)
    policy = page.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20
    assert page.text.count("<script") == page.text.count(f'<script nonce="{nonce}"') > 0
    assert nonce not in httpx.get(address).text, "it is another one each time"
    for told in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'self'", "form-action 'none'"):
        assert told in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


@browser
def test_a_script_that_got_into_the_page_is_not_run(reader):
    reader.script(
        "const one = document.createElement('script'); one.textContent = 'window.hacked = true';"
        "document.body.append(one); document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"hacked = 1\">')"
    )
    reader.ask("How?")
    reader.answered()
    assert reader.script("return window.hacked === undefined")


def test_the_routes_of_the_api_stay_as_they_were(address):
    with httpx.Client(base_url=address) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/rag").status_code == 405
        assert client.get("/nothing").status_code == 404
        assert client.post("/rag", json={"question": "How?"}).json()["trace_id"]
        assert not [path for path in client.get("/openapi.json").json()["paths"] if "gradio" in path]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that requires keys, and one of its keys."""
    keys = KeyRing(tmp_path_factory.mktemp("keys") / "keys.json")
    key, secret = keys.add("readers")
    service = MiniatureService()
    app = create_app(service, keys=keys, require_keys=True, limits=Limits(threads=1, waiting=0))
    mount_chat(app, facets=service.facets, titles=service.titles)
    with serving(app, timeout_graceful_shutdown=1) as url:
        until(lambda: httpx.get(url, auth=("", secret)).status_code == 200)
        yield url, secret, keys, key, service


def test_where_keys_are_required_the_page_is_no_open_door(guarded):
    url, secret, _, _, service = guarded
    html = {"Accept": "text/html"}
    refused = httpx.get(url, headers=html)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic"), "the browser then asks for the key"
    for path in ("/config", "/theme.css", "/gradio_api/queue/data?session_hash=x", "/gradio_api/heartbeat/x"):
        assert httpx.get(url + path).status_code == 401, path
    body = {"data": ["How?"], "fn_index": 0, "session_hash": "x"}
    assert httpx.post(f"{url}/gradio_api/queue/join", json=body).status_code == 401
    assert httpx.get(url, auth=("anyone", "twin-wrong")).status_code == 401
    assert httpx.get(url, auth=("anyone", secret)).status_code == 200
    assert service.questions == []


class Tab:
    """The page without a browser, as Gradio's script speaks to its server."""

    def __init__(self, client, session: str) -> None:
        self.client, self.session = client, session
        config = client.get("/config").json()
        ids = {one["props"].get("elem_id"): one["id"] for one in config["components"]}
        self.ask_index = next(
            one["id"] for one in config["dependencies"] if [ids["question"], "submit"] in one["targets"]
        )

    def ask(self, text: str) -> None:
        data = [text, None, [], [], [], "", ""]
        body = {"data": data, "fn_index": self.ask_index, "session_hash": self.session}
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()

    @contextmanager
    def event_lines(self):
        """Line by line what the page is told, until it is closed."""
        with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as response:
            yield response.iter_lines()


@contextmanager
def held(service):
    service.__init__()
    service.hold = True
    try:
        yield
    finally:
        service.go.set()


def test_a_full_server_tells_the_reader_so_and_the_api_sees_the_question_of_the_page(guarded):
    url, secret, _, _, service = guarded
    with held(service), httpx.Client(base_url=url, auth=("", secret), timeout=SECONDS) as client:
        first, second = Tab(client, "first"), Tab(client, "second")
        first.ask("First?")
        with first.event_lines() as lines:
            next(line for line in lines if "where its author paused" in line)
            refused = client.post("/rag", json={"question": "And by the API?"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_busy")
            second.ask("Second?")
            with second.event_lines() as others:
                next(line for line in others if "the server is busy; try again in a moment" in line)
            service.go.set()
            next(line for line in lines if "Keep both" in line)
        metrics = client.get("/metrics").text
    assert 'twin_answers_total{outcome="answered"} 1.0' in metrics
    assert [one.text for one in service.questions] == ["First?"]


def test_a_tab_that_is_closed_stops_the_model_also_when_it_is_silent(guarded):
    url, secret, _, _, service = guarded
    with held(service), httpx.Client(base_url=url, auth=("", secret), timeout=SECONDS) as client:
        tab = Tab(client, "leaving")
        tab.ask("How?")
        with tab.event_lines() as lines:
            next(line for line in lines if "where its author paused" in line)
        assert service.closed.wait(SECONDS)
        until(lambda: 'twin_answers_total{outcome="abandoned"} 1.0' in client.get("/metrics").text)
        service.hold = False
        assert client.post("/rag", json={"question": "Is its thread free again?"}).status_code == 200


@browser
def test_with_a_key_the_page_works_and_without_it_no_more(guarded):
    from selenium.webdriver.common.keys import Keys

    url, secret, keys, key, service = guarded
    service.__init__()
    token = base64.b64encode(f"reader:{secret}".encode()).decode()
    with chromium() as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {token}"}})
        reader = Reader(driver, url)
        reader.open()
        reader.ask("How?")
        reader.answered()
        keys.revoke(key.id)
        assert httpx.get(url, auth=("", secret)).status_code == 401
        driver.get_log("performance")
        reader.see("#question textarea").send_keys("Still?", Keys.ENTER)
        until(lambda: any('"status":401' in entry["message"] for entry in driver.get_log("performance")))
        assert [one.text for one in service.questions] == ["How?"]


# --- starting and stopping -----------------------------------------------------------------------------------------


class Building:
    """A page that is built when told so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.begun, self.go = error, threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.go.wait(SECONDS)
        if self.error:
            raise self.error
        return Starlette(routes=[Route("/", PlainTextResponse("the page"))])


def portal_of(client: TestClient) -> BlockingPortal:
    assert client.portal is not None, "its app runs"
    return client.portal


@contextmanager
def chat_of(build, *, loaded=True):
    ready = asyncio.Event()
    if loaded:
        ready.set()
    chat = DeferredApp(build, after=ready.wait)
    app = Starlette(routes=[Route("/", chat)], lifespan=lambda app: chat.running())
    with TestClient(app) as client:
        yield client, lambda: portal_of(client).call(ready.set)
        build.go.set()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("No module named 'gradio'"), "its packages are not installed"),
        (ValueError("x"), "could not be built"),
    ],
)
def test_without_its_packages_the_page_says_so_and_the_rest_is_served(error, words):
    logged = []
    sink = logger.add(logged.append, level="ERROR", format="{message}")
    build = Building(error)
    build.go.set()
    with chat_of(build) as (client, _):
        answer = until(lambda: (found := client.get("/")) and words in found.text and found)
        assert answer.status_code == 503
        assert "refresh" not in answer.headers, "it will not come"
    logger.remove(sink)
    assert str(error) in "".join(logged)


def test_a_page_whose_own_start_fails_says_so():
    class Failing(Building):
        def __call__(self):
            return Starlette(lifespan=self.failing)

        @asynccontextmanager
        async def failing(self, app):
            raise ZeroDivisionError
            yield

    with chat_of(Failing()) as (client, _):
        until(lambda: "could not be built" in client.get("/").text)


def test_the_page_is_built_when_it_is_asked_for_and_the_models_are_loaded():
    build = Building()
    with chat_of(build, loaded=False) as (client, load):
        answer = client.get("/")
        assert (answer.status_code, answer.headers["refresh"]) == (503, "1")
        assert "is starting" in answer.text
        assert not build.begun.is_set()
        load()
        assert build.begun.wait(SECONDS)
        assert "being prepared" in client.get("/").text
        build.go.set()
        until(lambda: client.get("/").text == "the page")


def test_nobody_who_does_not_look_at_the_page_pays_for_it():
    build = Building()
    with chat_of(build) as (client, _):
        portal_of(client).call(asyncio.sleep, 0)
    assert not build.begun.is_set()


SERVER = """
import sys
sys.path.append("tests")
import uvicorn
from chat_reader import Reader
from waiting import SECONDS, until
from chat_service import MiniatureService
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.chat import mount_chat
service = MiniatureService()
app = mount_chat(create_app(service), facets=service.facets)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=250)
"""


def test_an_open_page_does_not_keep_the_server_from_stopping():
    """An open page holds a connection for ever; waiting for it would take the whole 250 seconds."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], cwd=root, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _status(url) == 200)
        with httpx.stream("GET", f"{url}/gradio_api/heartbeat/someone", timeout=SECONDS) as beats:
            lines = beats.iter_lines()
            assert next(lines) == "data: ALIVE"
            process.send_signal(signal.SIGTERM)
            for _ in lines:
                pass
        process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()


def _status(url):
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0
