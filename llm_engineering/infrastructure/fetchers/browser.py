"""The last rung: a real headless Chromium that runs the page's scripts. See docs/crawling-politely.md."""

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched
from llm_engineering.infrastructure.fetchers import ssrf_guard
from llm_engineering.infrastructure.fetchers.chromium import RunningBrowser, find_browser
from llm_engineering.infrastructure.fetchers.errors import FetchError, as_source_error, printable_line
from llm_engineering.infrastructure.fetchers.proxy import GuardedProxy
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
MAX_CHARACTERS = 20_000_000
NO_BROWSER = (
    "no Chromium with its chromedriver found: apt install chromium chromium-driver, or set TWIN_CHROMIUM to the browser"
)
# Scrolls down and says how much there is; called until the answer stays the same.
SCROLL_DOWN = """
window.scrollTo(0, document.documentElement.scrollHeight);
return [document.documentElement.scrollHeight, document.getElementsByTagName('*').length,
        (document.body || {textContent: ''}).textContent.length];
"""
# The HTTP status, or the name of the error when Chromium shows its own page instead, under the address that failed.
STATUS = """
if (location.protocol === 'chrome-error:') return 'net::ERR_' + ((window.loadTimeDataRaw || {}).errorCode || 'FAILED');
const navigation = performance.getEntriesByType('navigation')[0];
return (navigation && navigation.responseStatus) || 200;
"""
NET_ERRORS = (  # the beginnings of Chromium's net::ERR_* names
    ("NAME_", Reason.DNS, False),
    ("CERT_", Reason.TLS, False),
    ("SSL_", Reason.TLS, False),
    ("TOO_MANY_REDIRECTS", Reason.REDIRECT_LOOP, False),
    ("TIMED_OUT", Reason.TIMEOUT, True),
    ("CONNECTION_TIMED_OUT", Reason.TIMEOUT, True),
    ("INVALID_URL", Reason.BAD_LINK, False),
    ("ABORTED", Reason.WRONG_TYPE, False),  # a download
    ("", Reason.CONNECT, True),
)


class SeleniumBrowser:
    """Plays `Browser`: one Chromium, started when first needed, one page at a time, gone after `close`.

    All its requests, those of the page's scripts too, go through a proxy of ours that reaches only public addresses
    and `allow_hosts`. Times in seconds: `page_seconds` until the document is there, `quiet_seconds` without growth
    until it counts as whole, at most `grow_seconds` of scrolling, `answer_seconds` for the page after a login.
    """

    def __init__(
        self,
        chromium: Path | None = None,
        *,
        allow_hosts: Sequence[str] = (),
        resolve: ssrf_guard.Resolve = ssrf_guard.resolve,
        page_seconds: float = 30.0,
        quiet_seconds: float = 1.0,
        grow_seconds: float = 30.0,
        answer_seconds: float = 10.0,
    ) -> None:
        self._chromium = chromium
        self._guard = SsrfGuard(allow_hosts=allow_hosts, resolve=resolve)
        self._page, self._quiet, self._grow, self._answer = page_seconds, quiet_seconds, grow_seconds, answer_seconds
        self._one_at_a_time = threading.RLock()
        self._running: RunningBrowser | None = None
        self._proxy: GuardedProxy | None = None
        self._refusals: dict[str, FetchError] = {}  # host -> why the proxy did not let the browser reach it

    def get(self, url: str) -> Fetched:
        """The page's HTML after its scripts ran and it stopped growing. Raises SourceError."""
        with self._one_at_a_time, as_source_error(url):
            self._guard.check(url)
            return self._retried_after_a_crash(lambda: self._read(url))

    def login(self, url: str, fields: dict[str, str], submit: str) -> None:
        """Fill the form at `url` (CSS selector -> text) and press `submit`. Raises SourceError(LOGIN) if there is no
        such form, or it is still there afterwards."""
        with self._one_at_a_time, as_source_error(url):
            self._guard.check(url)
            self._retried_after_a_crash(lambda: self._fill(url, fields, submit))

    def close(self) -> None:
        with self._one_at_a_time:
            if self._running is not None:
                self._running.stop()
            if self._proxy is not None:
                self._proxy.close()
            self._running = self._proxy = None
            atexit.unregister(self.close)

    # --- one page -------------------------------------------------------------------------------------------

    def _read(self, url: str) -> Fetched:
        driver = self._open(url)
        status = self._settled_status(driver)
        html, landed = driver.page_source, driver.current_url
        if len(html) > MAX_CHARACTERS:
            raise FetchError(Reason.TOO_LARGE, f"the page grew above {MAX_CHARACTERS:,} characters", retry=False)
        return Fetched(landed, status, "text/html", html, html.encode("utf-8", "replace"))

    def _open(self, url: str) -> "Chrome":
        driver = self._started().driver
        self._refusals.clear()
        driver.get(url)
        return driver

    def _settled_status(self, driver: "Chrome") -> int:
        """Of where the browser ended up, once the page is whole; the proxy's refusal looks like a plain 403 to it."""
        self._wait_until_quiet(driver)
        if refused := self._refusals.get(urlsplit(driver.current_url).hostname or ""):
            raise refused
        status = driver.execute_script(STATUS)
        if isinstance(status, str):
            raise self._load_error(status)
        if status in (404, 410):
            raise FetchError(Reason.NOT_FOUND, f"HTTP {status}", retry=False)
        if status >= 400:
            retry = status == 429 or 500 <= status < 600
            raise FetchError(Reason.HTTP_ERROR, f"HTTP {status} in the browser", retry=retry)
        return status

    def _wait_until_quiet(self, driver: "Chrome") -> None:
        size: object = None
        end = time.monotonic() + self._grow
        quiet_since = now = time.monotonic()
        while now < end and now - quiet_since < self._quiet:
            if (found := driver.execute_script(SCROLL_DOWN)) != size:
                size, quiet_since = found, time.monotonic()
            time.sleep(min(0.1, self._quiet / 4))
            now = time.monotonic()

    def _fill(self, url: str, fields: dict[str, str], submit: str) -> None:
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.common.by import By

        driver = self._open(url)
        self._settled_status(driver)
        try:
            for selector, text in fields.items():
                field = driver.find_element(By.CSS_SELECTOR, selector)
                field.clear()
                field.send_keys(text)
            document = driver.find_element(By.TAG_NAME, "html")
            driver.find_element(By.CSS_SELECTOR, submit).click()
        except (NoSuchElementException, StaleElementReferenceException) as error:
            selectors = ", ".join((*fields, submit))
            raise FetchError(Reason.LOGIN, f"the page has no such form ({selectors})", retry=False) from error
        self._wait_until_left(driver, document)
        self._wait_until_quiet(driver)
        if all(driver.find_elements(By.CSS_SELECTOR, selector) for selector in fields):
            raise FetchError(Reason.LOGIN, "the login form is still there; check the name and password", retry=False)

    def _wait_until_left(self, driver: "Chrome", document: "WebElement") -> None:
        """Until the answer to the form took the document's place; a form that a script sends may never leave it."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.expected_conditions import staleness_of
        from selenium.webdriver.support.wait import WebDriverWait

        try:
            WebDriverWait(driver, self._answer, poll_frequency=0.05).until(staleness_of(document))
        except TimeoutException:
            return

    # --- one browser ----------------------------------------------------------------------------------------

    def _started(self) -> RunningBrowser:
        if self._running is None:
            found = find_browser(self._chromium)
            if found is None:
                raise FetchError(Reason.BROWSER, NO_BROWSER, retry=False)
            self._proxy = self._proxy or GuardedProxy(self._guard, self._refusals)
            atexit.register(self.close)  # the last net, for programs that forget to close
            self._running = RunningBrowser(found, proxy=self._proxy.address, page_seconds=self._page)
        return self._running

    def _retried_after_a_crash(self, work: Callable[[], T]) -> T:
        """Once more in a fresh browser when this one has gone; a second crash is the page's doing, or the machine's."""
        from selenium.common.exceptions import TimeoutException, WebDriverException
        from urllib3.exceptions import HTTPError

        for last in (False, True):
            try:
                return work()
            except TimeoutException as error:
                raise FetchError(Reason.TIMEOUT, f"no document within {self._page:g} s", retry=True) from error
            except (WebDriverException, HTTPError, ConnectionError) as error:
                words = printable_line(getattr(error, "msg", None) or error)
                if "net::ERR_" in words:
                    raise self._load_error(words) from error
                if self._running is not None:
                    self._running.stop()
                    self._running = None
                if last:
                    raise FetchError(Reason.BROWSER, f"the browser crashed twice: {words}", retry=True) from error
        raise AssertionError("two tries, each returns or raises")

    def _load_error(self, words: str) -> FetchError:
        if self._refusals:
            return next(reversed(self._refusals.values()))
        name = words.partition("net::ERR_")[2].partition(" ")[0].removeprefix("ERR_")
        reason, retry = next((reason, retry) for start, reason, retry in NET_ERRORS if name.startswith(start))
        return FetchError(reason, f"the browser says net::ERR_{name}", retry=retry)
