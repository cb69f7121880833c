"""The last rung: a real headless Chromium that runs the page's scripts. See docs/crawling-politely.md."""

import atexit
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import DEFAULT_PORTS
from llm_engineering.domain.ports import Fetched
from llm_engineering.infrastructure.fetchers import ssrf_guard
from llm_engineering.infrastructure.fetchers.chromium import RunningBrowser, find_browser
from llm_engineering.infrastructure.fetchers.errors import FetchError, as_source_error, printable_line
from llm_engineering.infrastructure.fetchers.isolated_page import (
    CLICK,
    HOLDS_ALL,
    PROBE,
    IsolatedPage,
    PageGone,
    ScriptFailed,
)
from llm_engineering.infrastructure.fetchers.proxy import GuardedProxy
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard

T = TypeVar("T")
MAX_CHARACTERS = 20_000_000
NO_BROWSER = (
    "no Chromium with its chromedriver found: apt install chromium chromium-driver, or set TWIN_CHROMIUM to the browser"
)
READING_SHARE = 0.2  # of the time for a page, kept for reading it after it was waited for
LEAVE_SECONDS = 5.0  # to put an empty tab in a page's place; else the browser is ended
TEXT = ("text/", "application/xhtml+xml", "application/xml", "application/json")  # what the browser shows as it is
COOKIE_FIELDS = ("name", "value", "domain", "path", "secure", "httpOnly", "sameSite", "expires")
NET_ERRORS = (  # the beginnings of Chromium's net::ERR_* names
    ("NAME_", Reason.DNS, False),
    ("CERT_", Reason.TLS, False),
    ("SSL_", Reason.TLS, False),
    ("TOO_MANY_REDIRECTS", Reason.REDIRECT_LOOP, False),
    ("TIMED_OUT", Reason.TIMEOUT, True),
    ("CONNECTION_TIMED_OUT", Reason.TIMEOUT, True),
    ("INVALID_URL", Reason.BAD_LINK, False),
    ("UNSAFE_PORT", Reason.BAD_LINK, False),
    ("UNKNOWN_URL_SCHEME", Reason.BAD_LINK, False),
    ("INVALID_AUTH_CREDENTIALS", Reason.LOGIN, False),
    ("RESPONSE_HEADERS_TOO_BIG", Reason.TOO_LARGE, False),
    ("ABORTED", Reason.WRONG_TYPE, False),
    ("", Reason.CONNECT, True),
)


class SeleniumBrowser:
    """Plays `Browser`: one Chromium, started when first needed, one page at a time, gone after `close`.

    All its requests, those of the page's scripts too, go through a proxy of ours that reaches only public addresses
    and `allow_hosts`. Times in seconds: `page_seconds` for a page in all, after which the browser is killed and the
    next page gets a new one; `quiet_seconds` without growth until a page counts as whole, at most `grow_seconds` of
    scrolling, `answer_seconds` for the page after a login.
    """

    def __init__(
        self,
        chromium: Path | None = None,
        *,
        allow_hosts: Sequence[str] = (),
        resolve: ssrf_guard.Resolve = ssrf_guard.resolve,
        page_seconds: float = 28.0,
        quiet_seconds: float = 1.0,
        grow_seconds: float = 20.0,
        answer_seconds: float = 10.0,
    ) -> None:
        self._chromium = chromium
        self._guard = SsrfGuard(allow_hosts=allow_hosts, resolve=resolve)
        self._page, self._quiet, self._grow, self._answer = page_seconds, quiet_seconds, grow_seconds, answer_seconds
        self._one_at_a_time = threading.RLock()
        self._running: RunningBrowser | None = None
        self._proxy: GuardedProxy | None = None
        self._refusals: dict[tuple[str, int], FetchError] = {}  # why the proxy did not let the browser reach a place
        self._cookies: list[dict[str, object]] = []  # of the last login, for a browser that is started again
        self._closed = False

    def get(self, url: str) -> Fetched:
        """The page's HTML after its scripts ran and it stopped growing. Raises SourceError."""
        return self._visit(url, lambda page: self._read(page, url))

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        """Fill the form at `url` (CSS selector -> text) and press `submit`. Raises SourceError(LOGIN) if there is no
        such form, or it is still there afterwards."""
        self._visit(url, lambda page: self._fill(page, url, fields, submit))

    def close(self) -> None:
        """From any thread, and for good: a page that is being read, or waits for its turn, raises SourceError."""
        self._closed = True
        if (running := self._running) is not None:
            running.kill()
        with self._one_at_a_time:
            self._end_browser()
            if self._proxy is not None:
                self._proxy.close()
            self._proxy = None
            atexit.unregister(self.close)

    # --- one page -------------------------------------------------------------------------------------------

    def _visit(self, url: str, work: Callable[[IsolatedPage], T]) -> T:
        with as_source_error(url):
            self._guard.check(url)
            with self._one_at_a_time:
                return self._retried_after_a_crash(lambda: self._at_page(work))

    def _at_page(self, work: Callable[[IsolatedPage], T]) -> T:
        running = self._started()
        page = IsolatedPage(running.driver)
        self._refusals.clear()
        late = FetchError(Reason.TIMEOUT, f"not read within {self._page:g} s; the browser was ended", retry=True)
        with self._left_behind(running, page), running.ended_after(self._page, late):
            return work(page)

    @contextmanager
    def _left_behind(self, running: RunningBrowser, page: IsolatedPage) -> Generator[None]:
        """Whatever the page is about, it goes no further, and the next one begins in an empty tab."""
        try:
            yield
        finally:
            stuck = FetchError(Reason.TIMEOUT, "the page could not be left", retry=True)
            try:
                if not running.runs:
                    raise stuck
                with running.ended_after(LEAVE_SECONDS, stuck):
                    page.start_afresh()
            except Exception:  # in whatever state it is, it is not needed
                self._end_browser()

    def _read(self, page: IsolatedPage, url: str) -> Fetched:
        status = self._settled_status(page, url)
        html, landed = self._retried_when_left(lambda: (page.html(MAX_CHARACTERS), page.frame().url))
        if not landed.startswith(("http://", "https://")):
            raise FetchError(Reason.EMPTY, f"the page leaves for {printable_line(landed, 80)}", retry=False)
        return Fetched(landed, status, "text/html", html, html.encode("utf-8", "replace"))

    def _settled_status(self, page: IsolatedPage, url: str) -> int:
        """Of where the browser ended up, once the page is whole; the proxy's refusal looks like a plain 403 to it."""
        before = page.frame()
        if error := page.navigate(url):
            raise self._load_error(error, url)
        if page.frame().load == before.load:
            raise FetchError(Reason.BROWSER, "the browser did not leave its empty page", retry=True)
        found = self._wait_until_quiet(page, time.monotonic() + self._page * (1 - READING_SHARE))
        frame = page.frame()
        if refused := self._refusals.get(_place(frame.url)):
            raise refused
        if frame.failed:
            raise self._load_error(page.error_name(), frame.url)
        _check_status(found["status"] or 200)
        return found["status"] or 200

    def _wait_until_quiet(self, page: IsolatedPage, end: float) -> dict[str, Any]:
        """Until nothing is added, or `end`; the last answer of the page. A page that is left is waited for anew."""
        found: dict[str, Any] | None = None
        end = min(end, time.monotonic() + self._grow)
        quiet_since = now = time.monotonic()
        while found is None or found["loading"] or (now < end and now - quiet_since < self._quiet):
            answer = self._retried_when_left(lambda: page.ask(PROBE))
            _check_media(answer["media"])
            if found is None or answer["size"] != found["size"]:
                quiet_since = time.monotonic()
            found = answer
            time.sleep(min(0.1, self._quiet / 4))
            now = time.monotonic()
        return found

    def _fill(self, page: IsolatedPage, url: str, fields: dict[str, str], submit: str) -> None:
        self._settled_status(page, url)
        form = page.frame()
        try:
            filled = all(page.type_into(selector, text) for selector, text in fields.items())
            sent = filled and page.ask(CLICK, submit)
        except (ScriptFailed, PageGone):
            sent = False
        if not sent:
            selectors = ", ".join((*fields, submit))
            raise FetchError(Reason.LOGIN, f"the page has no such form ({selectors})", retry=False)
        end = time.monotonic() + self._answer
        while page.frame().load == form.load and time.monotonic() < end:  # a form that a script sends may never leave
            time.sleep(0.05)
        self._wait_until_quiet(page, time.monotonic() + self._page * (1 - READING_SHARE))
        if self._retried_when_left(lambda: page.ask(HOLDS_ALL, *fields)):
            raise FetchError(Reason.LOGIN, "the login form is still there; check the name and password", retry=False)
        self._cookies = [
            {name: cookie[name] for name in COOKIE_FIELDS if name in cookie and cookie[name] != -1}
            for cookie in page.command("Storage.getCookies")["cookies"]
        ]

    def _retried_when_left(self, question: Callable[[], T]) -> T:
        """Asked of the next document when the page goes on to one; `ended_after` bounds it."""
        while True:
            try:
                return question()
            except PageGone:
                time.sleep(0.05)
            except ScriptFailed as error:
                raise FetchError(Reason.BROWSER, f"the page cannot be read: {error}", retry=False) from error

    # --- one browser ----------------------------------------------------------------------------------------

    def _started(self) -> RunningBrowser:
        if self._running is not None and not self._running.runs:
            self._end_browser()
        if self._running is None:
            found = find_browser(self._chromium)
            if found is None:
                raise FetchError(Reason.BROWSER, NO_BROWSER, retry=False)
            self._proxy = self._proxy or GuardedProxy(self._guard, self._refusals)
            atexit.register(self.close)  # the last net, for programs that forget to close
            self._running = RunningBrowser(found, proxy=self._proxy.address)
            if self._cookies:
                IsolatedPage(self._running.driver).command("Storage.setCookies", cookies=self._cookies)
        if self._closed:
            raise FetchError(Reason.BROWSER, "the browser was closed", retry=True)
        return self._running

    def _end_browser(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _retried_after_a_crash(self, work: Callable[[], T]) -> T:
        """Once more in a fresh browser when this one has gone; a second crash is the page's doing, or the machine's."""
        from selenium.common.exceptions import WebDriverException
        from urllib3.exceptions import HTTPError

        for last in (False, True):
            try:
                return work()
            except (WebDriverException, HTTPError, ConnectionError) as error:
                self._end_browser()
                if self._closed:
                    raise FetchError(Reason.BROWSER, "the browser was closed", retry=True) from error
                if last:
                    words = printable_line(getattr(error, "msg", None) or error)
                    raise FetchError(Reason.BROWSER, f"the browser crashed twice: {words}", retry=True) from error
        raise AssertionError("two tries, each returns or raises")

    def _load_error(self, words: str, url: str) -> FetchError:
        """For what Chromium says, or for why the proxy did not open the tunnel that it wanted."""
        name = words.partition("net::ERR_")[2].partition(" ")[0]
        if refused := self._refusals.get(_place(url)):
            return refused
        if name == "TUNNEL_CONNECTION_FAILED" and self._refusals:  # of another host, redirected to
            return next(reversed(self._refusals.values()))
        reason, retry = next((reason, retry) for start, reason, retry in NET_ERRORS if name.startswith(start))
        if name == "ABORTED":
            return FetchError(reason, "no page but a download, or an answer without content", retry=retry)
        return FetchError(reason, f"the browser says net::ERR_{name}", retry=retry)


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise FetchError(Reason.NOT_FOUND, f"HTTP {status}", retry=False)
    if status >= 400:
        retry = status == 429 or 500 <= status < 600
        raise FetchError(Reason.HTTP_ERROR, f"HTTP {status} in the browser", retry=retry)


def _check_media(media: str) -> None:
    """At once: a picture may load for ever."""
    if not media.startswith(TEXT):
        detail = f"the browser shows {printable_line(media, 60)}, no page"
        raise FetchError(Reason.WRONG_TYPE, detail, retry=False)


def _place(url: str) -> tuple[str, int]:
    """Host and port, as the proxy is asked for them."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
