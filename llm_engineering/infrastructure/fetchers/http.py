"""The fetcher: asks a web address politely, safely and with limits. See docs/crawling-politely.md."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import urldefrag

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched
from llm_engineering.infrastructure.backoff import backoff
from llm_engineering.infrastructure.fetchers import robots, ssrf_guard
from llm_engineering.infrastructure.fetchers.deadline import Deadline, deadline_scope
from llm_engineering.infrastructure.fetchers.decompression import ACCEPT_ENCODING
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, as_source_error, printable_line
from llm_engineering.infrastructure.fetchers.guarded_transport import guarded_client, translated_errors
from llm_engineering.infrastructure.fetchers.politeness import HostRateLimiter
from llm_engineering.infrastructure.fetchers.response import BodyLimits, read_response, validator
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard, checked_url, host_and_port, redirected_url
from llm_engineering.infrastructure.fetchers.status import check_status, redirect

if TYPE_CHECKING:
    import httpx

MOST_COOKIES, COOKIE_CHARACTERS = 50, 16_000  # set by one answer


@dataclass(frozen=True)
class Conditions:
    """What holds for every attempt at one link: what is sent along, and what is taken in."""

    headers: dict[str, str]
    limits: BodyLimits
    obey_robots: bool = True

    @property
    def conditional(self) -> bool:
        return not self.headers.keys().isdisjoint(("If-None-Match", "If-Modified-Since"))


@dataclass(frozen=True)
class Attempt:
    """One attempt: its cookies live only as long as its redirects."""

    conditions: Conditions
    deadline: Deadline
    cookies: "httpx.Cookies"


class HttpFetcher:
    """Plays `Fetcher`; safe to share between threads. Times in seconds, sizes in bytes.

    `total_timeout` holds for a link as a whole: its redirects, attempts and the waits between them, but not the wait
    for its host's turn. `rate_limiter` is shared between fetchers. `resolve` (host, port -> addresses) and
    `first_backoff` are for tests and for the curious.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        per_host: int,
        delay: float,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float,
        attempts: int,
        max_redirects: int,
        max_bytes: int,
        allow_hosts: Sequence[str] = (),
        own_hosts: Sequence[str] = (),
        rate_limiter: HostRateLimiter | None = None,
        resolve: ssrf_guard.Resolve = ssrf_guard.resolve,
        first_backoff: float = 0.5,
    ) -> None:
        import httpx

        self._delay, self._total, self._attempts = delay, total_timeout, attempts
        self._max_redirects, self._max_bytes, self._first_backoff = max_redirects, max_bytes, first_backoff
        self._own = SsrfGuard(allow_hosts=own_hosts)
        self._client = guarded_client(SsrfGuard(allow_hosts=allow_hosts, resolve=resolve), user_agent=user_agent)
        self._client.timeout = httpx.Timeout(read_timeout, connect=connect_timeout, pool=None)
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # nothing outlives one `get`
        self._closed = threading.Event()
        self._rate_limiter = rate_limiter or HostRateLimiter(per_host=per_host)
        self._robots = robots.Robots(user_agent=user_agent, read=self._read_robots)

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = ("text/", "application/xhtml+xml", "application/pdf"),
    ) -> Fetched:
        """Raises SourceError, or NotModified when the validators still hold. A validator that cannot be sent is not."""
        headers = {"Accept": ", ".join(f"{one}*" if one.endswith("/") else one for one in accept) + ", */*;q=0.1"}
        if etag := validator(etag):
            headers["If-None-Match"] = etag
        if last_modified := validator(last_modified):
            headers["If-Modified-Since"] = last_modified
        with as_source_error(url):
            return self._fetch(url, Conditions(headers, BodyLimits(self._max_bytes, tuple(accept))))

    def close(self) -> None:
        """Ends the waits of other threads too; what they were asking for raises SourceError."""
        self._closed.set()
        self._client.close()

    def _read_robots(self, url: str) -> str:
        """The text of a robots.txt, as much of it as counts. Raises FetchError."""
        limits = BodyLimits(robots.MAX_BYTES, ("",), truncate=True)
        fetched = self._fetch(url, Conditions({"Accept": "text/plain, */*;q=0.1"}, limits, obey_robots=False))
        return fetched.body.decode("utf-8-sig", "replace")

    # --- attempts -------------------------------------------------------------------------------------------

    def _fetch(self, url: str, conditions: Conditions) -> Fetched:
        """Attempt after attempt, until one succeeds or another is not worth its time."""
        import httpx

        deadline = Deadline(self._total)
        for number in range(1, self._attempts + 1):
            try:
                with deadline_scope(deadline):
                    return self._follow_redirects(url, Attempt(conditions, deadline, httpx.Cookies()))
            except FetchTimeout:
                raise FetchError(Reason.TIMEOUT, f"no whole answer within {self._total:g} s", retry=True) from None
            except FetchError as error:
                seconds = backoff(number, self._first_backoff) if error.retry_after is None else error.retry_after
                if not error.retry_now or number == self._attempts or not deadline.allows(seconds):
                    raise
            self._wait(seconds)
        raise AssertionError("there is at least one attempt")

    def _wait(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise FetchError(Reason.CONNECT, "the fetcher was closed", retry=True)

    # --- one attempt: redirects, each hop checked and in its host's turn --------------------------------------

    def _follow_redirects(self, url: str, attempt: Attempt) -> Fetched:
        start = here = urldefrag(url).url
        seen: set[tuple[str, str | None]] = set()
        for _hop in range(self._max_redirects + 1):
            try:
                request = self._request(here, attempt)
                if (step := (here, request.headers.get("Cookie"))) in seen:
                    raise FetchError(Reason.REDIRECT_LOOP, "redirects in a circle", retry=False)
                seen.add(step)
                answer = self._exchange(request, attempt, self._delay_before(here, attempt))
            except FetchError as error:
                error.detail += f", redirected to {here}" if here != start else ""
                raise
            if isinstance(answer, Fetched):
                return answer
            here = answer
        raise FetchError(Reason.REDIRECT_LOOP, f"more than {self._max_redirects} redirects", retry=False)

    def _request(self, url: str, attempt: Attempt) -> "httpx.Request":
        import httpx

        checked_url(url)
        headers = {**attempt.conditions.headers, "Accept-Encoding": ACCEPT_ENCODING}
        try:
            request = self._client.build_request("GET", url, headers=headers, cookies=attempt.cookies)
            _ = request.url.host  # is decoded when asked for, and may not be decodable
            return request
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchError(Reason.BAD_LINK, f"not a link: {printable_line(error)}", retry=False) from error

    def _delay_before(self, url: str, attempt: Attempt) -> float:
        if not attempt.conditions.obey_robots or self._own.allows(*host_and_port(checked_url(url))):
            return self._delay
        with attempt.deadline.pause(), deadline_scope(None):  # robots.txt has a deadline of its own
            return max(self._delay, self._robots.delay(url))

    def _exchange(self, request: "httpx.Request", attempt: Attempt, delay: float) -> Fetched | str:
        """The answer, or where it redirects to."""
        with ExitStack() as slot, translated_errors():
            with attempt.deadline.pause():
                slot.enter_context(self._rate_limiter.slot(request.url.host, delay, wait=self._wait))
            self._wait(0)
            with closing(self._send(request)) as response:
                _keep_cookies(response, attempt.cookies)
                if location := redirect(response):
                    return redirected_url(str(request.url), location)
                try:
                    check_status(response, conditional=attempt.conditions.conditional)
                except FetchError as error:
                    if error.status == 429 and error.retry_after:  # it was not meant for one link only
                        self._rate_limiter.postpone(request.url.host, error.retry_after)
                    raise
                return read_response(response, attempt.conditions.limits)

    def _send(self, request: "httpx.Request") -> "httpx.Response":
        try:
            return self._client.send(request, stream=True)
        except RuntimeError:
            self._wait(0)  # "the client has been closed": by us, meanwhile
            raise


def _keep_cookies(response: "httpx.Response", cookies: "httpx.Cookies") -> None:
    """Of an answer that sets no more than a site needs; the others are not kept, and the page is read without."""
    headers = response.headers.get_list("Set-Cookie")
    if len(headers) <= MOST_COOKIES and sum(map(len, headers)) <= COOKIE_CHARACTERS:
        cookies.extract_cookies(response)
