"""Pages that want more of the browser than to be read: none keeps it, none speaks for another, none gets around it."""

import socket
import tempfile
import threading
import time
from contextlib import suppress

import pytest
from loopback import Answer
from waiting import until

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers import chromium
from llm_engineering.infrastructure.fetchers.browser import SeleniumBrowser
from llm_engineering.infrastructure.fetchers.chromium import find_browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium with chromedriver on this machine"),
]
PAGE_SECONDS = 20


@pytest.fixture(scope="module")
def browser():
    """One for all of them: each page meets what the one before has left behind."""
    one = SeleniumBrowser(allow_hosts=("127.0.0.1",), quiet_seconds=0.4, grow_seconds=4, page_seconds=PAGE_SECONDS)
    yield one
    one.close()


def reads(browser, site, words="an honest page") -> bool:
    site.page("/honest", f"<title>t</title><p>{words}")
    return words in browser.get(site.url("/honest")).text


def failure(browser, url) -> SourceError:
    with pytest.raises(SourceError) as caught:
        browser.get(url)
    assert "\n" not in caught.value.detail
    return caught.value


# --- pages that never end ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "for (;;);",
        "setTimeout(() => { for (;;); }, 200)",
        "addEventListener('scroll', () => { for (;;); }); document.body.style.height = '90000px'",
        "for (;;) alert('once more')",
    ],
    ids=["at-once", "later", "when-scrolled", "dialogs"],
)
def test_a_page_that_never_ends_is_ended_and_the_next_one_is_read(site, browser, script):
    site.page("/", f"<body><p>words<script>{script}</script>")
    began = time.monotonic()
    error = failure(browser, site.url("/"))
    assert (error.reason, error.retry) == (Reason.TIMEOUT, True)
    assert time.monotonic() - began >= PAGE_SECONDS - 1, "it had its time, and no more"
    assert reads(browser, site)


@pytest.mark.slow
@pytest.mark.parametrize("eats", ["new Uint8Array(1e8).fill(1)", "new Array(1e5).fill(1.5)"], ids=["buffers", "arrays"])
def test_a_page_that_eats_memory_is_ended_by_it_and_the_next_one_is_read(site, browser, eats, monkeypatch):
    assert reads(browser, site)
    honest = browser._running._memory()
    assert honest > 20_000_000
    monkeypatch.setattr(chromium, "MAX_MEMORY", honest + 500_000_000)
    monkeypatch.setattr(browser, "_page", 600)  # however slow the machine is, its memory is what ends it
    site.page("/", f"<p>words<script>const all = []; for (;;) all.push({eats})</script>")
    error = failure(browser, site.url("/"))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "bytes of memory" in error.detail
    assert reads(browser, site)


def test_half_a_minute_is_the_most_a_page_gets_by_default():
    assert SeleniumBrowser()._page < 30


@pytest.mark.slow
def test_a_server_that_never_answers_the_browser_is_left(site, browser):
    done = threading.Event()
    site.wire("/", lambda wire: done.wait(60))
    assert failure(browser, site.url("/")).reason == Reason.TIMEOUT
    done.set()
    assert reads(browser, site)


@pytest.mark.slow
def test_closing_ends_the_page_that_is_being_read_and_those_that_wait(site):
    browser = SeleniumBrowser(allow_hosts=("127.0.0.1",))
    arrived, done, errors = threading.Event(), threading.Event(), []

    def endless(request):
        arrived.set()
        done.wait(60)
        return Answer(200, "late")

    site.route("/", endless)
    readers = [threading.Thread(target=lambda: errors.append(failure(browser, site.url("/")))) for _ in range(3)]
    for one in readers:
        one.start()
    assert arrived.wait(60)
    browser.close()
    done.set()
    for one in readers:
        one.join(60)
    assert [one.reason for one in errors] == [Reason.BROWSER] * 3


# --- pages that are none -----------------------------------------------------------------------------------------


def test_a_download_is_an_error_and_never_the_page_before(site, browser):
    assert reads(browser, site)
    site.page("/file", "secret", headers={"Content-Disposition": "attachment; filename=a.txt"})
    site.page("/pdf", b"%PDF-1.4 nothing", media="application/pdf")
    site.page("/zip", b"PK\x03\x04", media="application/zip")
    site.page("/none", "", status=204)
    for path in ("/file", "/pdf", "/zip", "/none"):
        error = failure(browser, site.url(path))
        assert (error.reason, error.retry) == (Reason.WRONG_TYPE, False), path
        assert "download" in error.detail
    assert reads(browser, site)


def test_a_picture_is_no_page(site, browser):
    pixel = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
    site.page("/", pixel, media="image/gif")
    error = failure(browser, site.url("/"))
    assert (error.reason, error.retry) == (Reason.WRONG_TYPE, False)
    assert "image/gif" in error.detail


def test_a_page_that_sends_its_reader_inward_or_away_is_what_it_says(site, browser):
    site.page("/inward", "<script>location = 'http://10.1.2.3/'</script>")
    site.page("/away", "<script>location = '/honest'</script>")
    site.page("/gone", "<script>location = 'http://127.0.0.1:9/'</script>")
    assert failure(browser, site.url("/inward")).reason == Reason.BLOCKED_ADDRESS
    assert failure(browser, site.url("/gone")).reason == Reason.CONNECT
    site.page("/honest", "<p>an honest page")
    assert browser.get(site.url("/away")).url == site.url("/honest")
    site.page("/blank", "<p>words<script>location = 'about:blank'</script>")
    site.page("/locked", "", status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    assert failure(browser, site.url("/blank")).reason == Reason.EMPTY
    assert failure(browser, site.url("/locked")).reason == Reason.LOGIN


@pytest.mark.parametrize(
    "restless",
    [
        "<meta http-equiv=refresh content=0><p>words",
        "<p>words<script>setInterval(() => location.reload(), 60)</script>",
        "<p>words<script>setInterval(() => location.hash = Math.random(), 1)</script>",
        "<p>words<script>window.close(); print(); confirm('x'); prompt('y')</script>",
        "<p>words<script>onbeforeunload = onpagehide = onunload = () => { for (;;); }</script>",
        "<p>words<script>new Worker(URL.createObjectURL(new Blob(['for (;;);'])))</script>",
    ],
    ids=["refreshes", "reloads", "jumps", "closes", "stays", "works"],
)
def test_a_restless_page_is_read_and_left(site, browser, restless, monkeypatch):
    monkeypatch.setattr(browser, "_page", 300)  # however slow the machine is
    site.page("/", restless)
    assert "words" in browser.get(site.url("/")).text
    assert reads(browser, site)


# --- pages that lie to whoever asks ------------------------------------------------------------------------------

LIES = """
const lie = () => { throw new Error('broken by the page') };
for (const [where, names] of [
    [window, ['JSON', 'Promise', 'performance', 'scrollTo', 'open', 'Object', 'Array', 'Map', 'Symbol', 'alert']],
    [Array.prototype, ['push', 'map', 'filter', 'slice', 'indexOf', 'join', 'concat', Symbol.iterator]],
    [Object, ['defineProperty', 'keys', 'getOwnPropertyDescriptor', 'getPrototypeOf', 'assign']],
    [Function.prototype, ['toString', 'call', 'apply', 'bind']],
    [String.prototype, ['indexOf', 'slice', 'split', 'replace', 'toString']],
    [Document.prototype, ['querySelector', 'querySelectorAll', 'documentElement', 'readyState', 'contentType', 'body',
                          'getElementsByTagName', 'createElement']],
    [document, ['documentElement', 'body', 'querySelector', 'readyState', 'URL']],
    [Element.prototype, ['outerHTML', 'innerHTML', 'getElementsByTagName', 'scrollHeight', 'querySelectorAll']],
    [Node.prototype, ['textContent', 'childNodes', 'nodeType', 'ownerDocument']],
    [Performance.prototype, ['getEntriesByType', 'now']],
    [Object.prototype, ['toJSON', 'value', 'status', 'loading', 'media', 'size', 'get', 'call']],
    [Array.prototype, ['toJSON']],
]) for (const name of names) {
    try { Object.defineProperty(where, name, {get: lie, set: lie, configurable: false}); } catch (e) { }
}
window.onbeforeunload = () => 'stay';
"""


@pytest.mark.parametrize("names", [LIES, "document.write('<p>rewritten'); document.close()"], ids=["all", "rewritten"])
def test_a_page_that_replaces_the_built_in_functions_is_read_as_it_is(site, browser, names):
    site.page("/", f"<body><p>before</p><script>{names}</script><p>true words</p>")
    text = browser.get(site.url("/")).text
    assert "true words" in text or "rewritten" in text
    site.page("/gone", f"<p>sorry<script>{names}</script>", status=404)
    assert failure(browser, site.url("/gone")).reason == Reason.NOT_FOUND
    assert reads(browser, site)


def test_elements_named_like_what_is_asked_for_hide_nothing(site, browser):
    names = (
        "documentElement",
        "body",
        "readyState",
        "contentType",
        "querySelector",
        "getElementsByTagName",
        "location",
    )
    site.page(
        "/", "<body>" + "".join(f"<img name={one} id={one}><form name={one}></form>" for one in names) + "<p>true"
    )
    assert "<p>true" in browser.get(site.url("/")).text


def test_windows_that_a_page_opens_are_none_of_the_next_page(site, browser):
    site.page("/", "<p>first<script>for (let n = 0; n < 9; n++) open('/other'); window.name = 'left'</script>")
    site.page("/other", "<p>other")
    site.page("/next", "<p id=x><script>x.textContent = `name [${window.name}] ${history.length}`</script>")
    assert "first" in browser.get(site.url("/")).text
    assert "name [] " in browser.get(site.url("/next")).text


def test_a_login_reaches_its_form_whatever_the_page_has_replaced(site, browser):
    form = "<form method=post action=/in><input id=a name=a><input id=b name=b><button>Go</button></form>{}"
    site.page("/login", form.format(f"<script>{LIES}</script>"))
    site.route("/in", lambda request: Answer(200, b"<p>" + request.body, {"Content-Type": "text/html"}))
    browser.login(site.url("/login"), {"#a": "ann & co", "#b": "grün"}, "button")
    with pytest.raises(SourceError) as caught:
        browser.login(site.url("/login"), {"#a[": "ann"}, "button")
    assert caught.value.reason == Reason.LOGIN


@pytest.mark.slow
def test_a_login_outlives_the_browser_that_a_page_has_cost(site, browser):
    def enter(request):
        return Answer(200, "<p>welcome", {"Content-Type": "text/html", "Set-Cookie": "session=1; Path=/"})

    site.page("/login", "<form method=post action=/in><input id=a name=a><button>Go</button></form>")
    site.route("/in", enter)
    site.route("/diary", lambda request: Answer(200, "<p>cookies: " + request.headers.get("cookie", "none")))
    browser.login(site.url("/login"), {"#a": "ann"}, "button")
    browser._running.kill()
    assert "session=1" in browser.get(site.url("/diary")).text


def test_what_a_page_sends_passes_through_in_pieces_and_whole(site, browser):
    """However much it is, it is never held in this process."""
    site.page("/", """<p id=x>sending<script>
        fetch('/sent', {method: 'POST', body: new Uint8Array(30_000_000).fill(7)}).then(r => r.text())
            .then(text => x.textContent = text)</script>""")  # fmt: skip
    site.route("/sent", lambda request: Answer(200, f"got {len(request.body)} of {set(request.body)}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "_quiet", 3.0)
        patch.setattr(browser, "_grow", 20.0)
        assert "got 30000000 of {7}" in browser.get(site.url("/")).text


# --- ways around the guard ---------------------------------------------------------------------------------------

ASKS_STUN = """<p id=x>asking<script>
const peer = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:%d'}, {urls: 'stun:localhost:%d'}]});
peer.createDataChannel('x');
peer.onicegatheringstatechange = () => { if (peer.iceGatheringState == 'complete') x.textContent = 'asked' };
peer.createOffer().then(offer => peer.setLocalDescription(offer));
</script>"""


@pytest.fixture
def datagrams():
    """(port, what arrived there)"""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def listen():
            while True:
                try:
                    heard.append(listening.recv(2000))
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()
        yield listening.getsockname()[1], heard


def ask_stun(browser, site, port) -> str:
    site.page("/", ASKS_STUN % (port, port))
    try:
        return browser.get(site.url("/")).text
    finally:
        browser.close()


@pytest.mark.slow
def test_no_datagram_leaves_the_browser(site, datagrams):
    port, heard = datagrams
    browser = SeleniumBrowser(allow_hosts=("127.0.0.1",), quiet_seconds=5, grow_seconds=15)
    assert "asked" in ask_stun(browser, site, port)
    assert heard == []


@pytest.mark.slow
def test_without_its_flag_the_datagrams_would_leave(site, datagrams, monkeypatch):
    """Else the test above proves nothing."""
    port, heard = datagrams
    flags = tuple(flag for flag in chromium.FLAGS if "webrtc" not in flag)
    monkeypatch.setattr(chromium, "FLAGS", flags)
    monkeypatch.setattr(chromium, "PREFERENCES", {})
    ask_stun(SeleniumBrowser(allow_hosts=("127.0.0.1",), quiet_seconds=5, grow_seconds=15), site, port)
    until(lambda: heard)


# --- what it is told of us ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_browser_and_driver_know_no_secret_of_ours(site, monkeypatch):
    import psutil

    secrets = ("TWIN_LINKEDIN_PASSWORD", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "MY_TOKEN")
    for name in secrets:
        monkeypatch.setenv(name, "s3cret")
    browser = SeleniumBrowser(allow_hosts=("127.0.0.1",))
    site.page("/", "<p>words")
    browser.get(site.url("/"))
    seen = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # one that ends meanwhile
            if "chrom" in one.name():
                seen.append(one.environ())
    browser.close()
    assert len(seen) > 2
    assert not [one for one in seen if "s3cret" in one.values()]
    assert all(tempfile.gettempdir() in one["HOME"] for one in seen if "HOME" in one)
