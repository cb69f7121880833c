"""A real headless Chromium against pages of ours."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from loopback import Answer
from waiting import until

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.browser import SeleniumBrowser
from llm_engineering.infrastructure.fetchers.chromium import BrowserPaths, find_browser

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium with chromedriver on this machine")


@pytest.fixture(scope="module")
def shared_browser():
    """One for the module: starting it takes seconds."""
    browser = SeleniumBrowser(
        allow_hosts=("127.0.0.1", "one.example"), resolve=_resolve, quiet_seconds=0.6, grow_seconds=6, page_seconds=20
    )
    yield browser
    browser.close()


def _resolve(host, port):
    from llm_engineering.infrastructure.fetchers.ssrf_guard import resolve

    return ["127.0.0.1"] if host == "one.example" else resolve(host, port)


def failure(browser, url) -> SourceError:
    with pytest.raises(SourceError) as caught:
        browser.get(url)
    assert "\n" not in caught.value.detail
    return caught.value


def belongs_to(process: psutil.Process, folder: Path) -> bool:
    """Whether it is the browser itself (not one of its renderers), with its profile in that folder."""
    try:
        line = process.cmdline()
    except psutil.Error:  # it has gone, or is another user's
        return False
    return any(word.startswith(f"--user-data-dir={folder}") for word in line) and not any(
        word.startswith("--type=") for word in line
    )


def still_runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes() -> set[int]:
    """Of every browser and driver that this test process has started and that still runs; never of another's."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "chrom" in child.name() and child.status() != psutil.STATUS_ZOMBIE
    }


# --- pages -------------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.browser
def test_text_that_a_script_writes_is_there(site, shared_browser):
    site.page("/", "<div id=x></div><script>setTimeout(() => x.textContent = 'grüß ' + 'dich', 300)</script>")
    fetched = shared_browser.get(site.url("/"))
    assert "grüß dich" in fetched.text
    assert (fetched.url, fetched.status, fetched.media_type) == (site.url("/"), 200, "text/html")
    assert fetched.body == fetched.text.encode()


@needs_browser
@pytest.mark.browser
def test_a_page_that_grows_while_scrolled_is_read_to_its_end(site, shared_browser):
    site.page("/", """<body style="margin:0"><div id=x></div><script>
        let n = 0;
        const more = () => { for (let i = 0; i < 5; i++) { const p = document.createElement('p');
            p.style.height = '900px'; p.textContent = 'post ' + (++n); x.appendChild(p); } };
        more();
        addEventListener('scroll', () => {
            const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 50;
            if (end && n < 20) setTimeout(more, 100);
        });</script>""")  # fmt: skip
    text = shared_browser.get(site.url("/")).text
    assert "post 20<" in text
    assert "post 26<" not in text


@needs_browser
@pytest.mark.browser
def test_a_page_that_grows_for_ever_is_left_after_a_while(site, shared_browser):
    site.page("/", "<div id=x></div><script>setInterval(() => x.innerHTML += '<p>more</p>', 50)</script>")
    began = time.monotonic()
    assert "more" in shared_browser.get(site.url("/")).text
    assert time.monotonic() - began >= 6, "it never was quiet, so the limit ended it"


@needs_browser
@pytest.mark.browser
def test_an_open_dialog_does_not_stop_it(site, shared_browser):
    site.page("/", "<p>words</p><script>setTimeout(() => alert('hello'), 100)</script>")
    assert "words" in shared_browser.get(site.url("/")).text


@needs_browser
@pytest.mark.browser
def test_threads_take_turns(site, shared_browser):
    for number in range(3):
        site.page(f"/{number}", f"<p>page {number}</p>")
    with ThreadPoolExecutor(3) as threads:
        pages = list(threads.map(lambda number: shared_browser.get(site.url(f"/{number}")), range(3)))
    assert [f"page {number}" in page.text for number, page in enumerate(pages)] == [True] * 3


@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize(
    ("status", "reason", "retry"),
    [(404, Reason.NOT_FOUND, False), (403, Reason.HTTP_ERROR, False), (429, Reason.HTTP_ERROR, True)],
)
def test_an_error_page_is_an_error(site, shared_browser, status, reason, retry):
    site.page("/", "<p>sorry", status=status)
    error = failure(shared_browser, site.url("/"))
    assert (error.reason, error.retry) == (reason, retry)


@needs_browser
@pytest.mark.browser
def test_a_redirect_loop_and_a_dead_port_have_their_reasons(site, shared_browser):
    import socket

    site.redirect("/loop", "/loop")
    assert failure(shared_browser, site.url("/loop")).reason == Reason.REDIRECT_LOOP
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = failure(shared_browser, f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert (error.reason, error.retry) == (Reason.CONNECT, True)


@needs_browser
@pytest.mark.browser
def test_https_where_there_is_none_is_a_tls_failure(site, shared_browser):
    error = failure(shared_browser, site.url("/").replace("http:", "https:"))
    assert (error.reason, error.retry) == (Reason.TLS, False)


# --- what it may reach -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://localhost/", "http://169.254.169.254/", "http://[::1]/", "http://10.0.0.1/"])
def test_a_private_address_is_refused_before_a_browser_starts(url):
    error = failure(SeleniumBrowser(), url)
    assert (error.reason, error.retry) == (Reason.BLOCKED_ADDRESS, False)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "chrome://version", "javascript:1", "http://a:b@c/"])
def test_only_web_links_are_opened(url):
    assert failure(SeleniumBrowser(), url).reason == Reason.BAD_LINK


@needs_browser
@pytest.mark.browser
def test_a_redirect_inward_is_refused(site, shared_browser):
    site.redirect("/out", "http://10.1.2.3/secret")
    site.redirect("/out-tls", "https://10.1.2.3/secret")
    for path in ("/out", "/out-tls"):
        error = failure(shared_browser, site.url(path))
        assert (error.reason, error.retry) == (Reason.BLOCKED_ADDRESS, False)
        assert "10.1.2.3" in error.detail


@needs_browser
@pytest.mark.browser
def test_the_scripts_of_a_page_reach_no_private_address_either(site, new_site, shared_browser):
    inside = new_site()
    inside.page("/", "secret", headers={"Access-Control-Allow-Origin": "*"})
    site.page("/", f"""<p id=x>nothing</p><script>
        Promise.allSettled(['http://localhost:{inside.port}/', 'http://127.0.0.2:{inside.port}/'].map(
            link => fetch(link).then(r => r.text()))).then(all => x.textContent = JSON.stringify(all))
        </script>""")  # fmt: skip
    text = shared_browser.get(site.url("/", host="one.example")).text
    assert "secret" not in text
    assert "nothing" not in text, "the scripts have tried"
    assert inside.hits() == 0


@needs_browser
@pytest.mark.browser
def test_what_a_form_sends_passes_the_guard_whole(site, shared_browser):
    site.page("/form", "<form method=post action=/sent><input name=a value='one & two'></form><script>"
              "document.forms[0].submit()</script>")  # fmt: skip
    site.route("/sent", lambda request: Answer(200, b"<p>" + request.body, {"Content-Type": "text/html"}))
    assert "a=one+%26+two" in shared_browser.get(site.url("/form")).text


# --- login -------------------------------------------------------------------------------------------------------

FORM = (
    "<form method=post action=/in><input id=user name=user><input id=pass name=pass type=password><button>Go</button>"
)
FIELDS = {"#user": "ann", "#pass": "s3cret"}


@needs_browser
@pytest.mark.browser
def test_a_login_fills_the_form_and_its_cookie_is_kept(site, shared_browser):
    def enter(request):
        good = request.body == b"user=ann&pass=s3cret"
        headers = {"Content-Type": "text/html", **({"Set-Cookie": "session=1"} if good else {})}
        return Answer(200, "<p>welcome" if good else FORM, headers)

    def private(request):
        return Answer(200, "<p>diary" if "session=1" in request.headers.get("cookie", "") else FORM)

    site.page("/login", FORM)
    site.route("/in", enter)
    site.route("/private", private)
    shared_browser.login(site.url("/login"), FIELDS, "button")
    assert "diary" in shared_browser.get(site.url("/private")).text
    with pytest.raises(SourceError) as caught:
        shared_browser.login(site.url("/login"), {**FIELDS, "#pass": "wr0ng"}, "button")
    assert (caught.value.reason, caught.value.retry) == (Reason.LOGIN, False)
    assert "wr0ng" not in str(caught.value)


@needs_browser
@pytest.mark.browser
def test_a_page_without_the_form_is_a_login_error(site, shared_browser):
    site.page("/", "<p>no form")
    with pytest.raises(SourceError) as caught:
        shared_browser.login(site.url("/"), FIELDS, "button")
    assert caught.value.reason == Reason.LOGIN
    assert "#user" in caught.value.detail
    assert "s3cret" not in str(caught.value)


# --- its life ----------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.browser
def test_a_browser_that_was_killed_is_started_again(site, shared_browser):
    site.page("/", "<p>words")
    shared_browser.get(site.url("/"))
    killed = processes()
    for pid in killed:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    assert "words" in shared_browser.get(site.url("/")).text
    assert not killed & processes()


@needs_browser
@pytest.mark.browser
def test_a_browser_that_dies_on_a_page_twice_is_given_up_with_a_reason_and_leaves_nothing(site, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = processes()
    browser = SeleniumBrowser(allow_hosts=("127.0.0.1",))

    def deadly(request):
        for pid in processes() - before:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        return Answer(200, "never seen")

    site.route("/", deadly)
    error = failure(browser, site.url("/"))
    assert (error.reason, error.retry) == (Reason.BROWSER, True)
    assert "twice" in error.detail
    assert site.hits("/") >= 2
    browser.close()
    browser.close()
    assert not [one for one in psutil.process_iter() if belongs_to(one, tmp_path)]
    assert list(tmp_path.iterdir()) == []


@needs_browser
@pytest.mark.browser
def test_closing_leaves_no_process_and_no_profile(site, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    site.page("/", "<p>words")
    browser = SeleniumBrowser(allow_hosts=("127.0.0.1",), quiet_seconds=0.2)
    threads = threading.active_count()
    browser.get(site.url("/"))
    [program] = [one for one in psutil.process_iter() if belongs_to(one, tmp_path)]
    started = [program.parent(), program, *program.children(recursive=True)]  # its driver, itself, its renderers
    assert len(started) > 3
    browser.close()
    until(lambda: not any(map(still_runs, started)))
    assert list(tmp_path.iterdir()) == []
    until(lambda: threading.active_count() <= threads + 2)  # its proxy has ended


# --- finding it --------------------------------------------------------------------------------------------------


def test_without_a_browser_it_says_what_to_install(tmp_path):
    error = failure(SeleniumBrowser(tmp_path / "nowhere", resolve=lambda host, port: ["1.1.1.1"]), "http://a.example/")
    assert (error.reason, error.retry) == (Reason.BROWSER, False)
    assert "apt install chromium" in error.detail
    assert "TWIN_CHROMIUM" in error.detail


def _program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_driver_beside_the_browser_is_taken(tmp_path):
    binary = _program(tmp_path / "my-chromium", "Chromium 150.0.1 built on something")
    driver = _program(tmp_path / "chromedriver", "ChromeDriver 150.0.1 (abc)")
    found = find_browser(binary)
    assert found == BrowserPaths(binary, driver)
    assert found.versions() == ("Chromium 150.0.1 built on something", "ChromeDriver 150.0.1")


def test_a_program_that_does_not_start_has_no_version(tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    assert BrowserPaths(broken, tmp_path / "nowhere").versions() == ("", "")
