"""The fetcher: asks a web address politely, safely and with limits. See docs/crawling-politely.md."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urldefrag, urljoin

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched
from llm_engineering.infrastructure.fetchers import decoding, robots, ssrf_guard
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, about, one_line
from llm_engineering.infrastructure.fetchers.guarded_transport import Deadline, clock, guarded_client, honest_errors
from llm_engineering.infrastructure.fetchers.politeness import Turns, backoff
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard, checked_url, port_of
from llm_engineering.infrastructure.fetchers.status import check_status, redirect

HEAD = 1024  # bytes, enough to see what a body is


@dataclass
class Ask:
    """One link on its way: what is sent along, and the cookies that live only as long as its redirects."""

    headers: dict[str, str]
    accept: tuple[str, ...]  # prefixes of media types; ("",) for any
    deadline: Deadline
    cookies: Any  # httpx.Cookies
    asks_robots: bool = True
    cut_at: int | None = None  # take this many bytes and be content, instead of raising TOO_LARGE

    @property
    def conditional(self) -> bool:
        return not self.headers.keys().isdisjoint(("If-None-Match", "If-Modified-Since"))


class HttpFetcher:
    """Plays `Fetcher`; safe to share between threads. Times in seconds, sizes in bytes.

    `total_timeout` holds for a link as a whole: its redirects, attempts and the waits between them, but not the wait
    for its host's turn. `turns` are shared between fetchers. `resolve` (host, port -> addresses) and `first_backoff`
    are for tests and for the curious.
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
        turns: Turns | None = None,
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
        self._turns = turns or Turns(per_host=per_host)
        self._robots = robots.Robots(user_agent=user_agent, read=self._read_robots)

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = ("text/", "application/xhtml+xml", "application/pdf"),
    ) -> Fetched:
        """Raises SourceError, or NotModified when the validators still hold."""
        headers = {"Accept": ", ".join(f"{one}*" if one.endswith("/") else one for one in accept) + ", */*;q=0.1"}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        with about(url):
            return self._persist(url, headers, tuple(accept))

    def close(self) -> None:
        """Ends the waits of other threads too; what they were asking for raises SourceError."""
        self._closed.set()
        self._client.close()

    # --- attempts -------------------------------------------------------------------------------------------

    def _persist(self, url: str, headers: dict[str, str], accept: tuple[str, ...], **options: Any) -> Fetched:
        """Attempt after attempt, until one succeeds or another is not worth its time."""
        import httpx

        headers["Accept-Encoding"] = decoding.ACCEPT_ENCODING
        deadline = Deadline(self._total)
        for attempt in range(1, self._attempts + 1):
            try:
                with clock(deadline):
                    return self._follow(url, Ask(headers, accept, deadline, httpx.Cookies(), **options))
            except FetchTimeout:
                raise FetchError(Reason.TIMEOUT, f"no whole answer within {self._total:g} s", retry=True) from None
            except FetchError as trouble:
                seconds = backoff(attempt, self._first_backoff) if trouble.wait is None else trouble.wait
                if not trouble.again or attempt == self._attempts or not deadline.allows(seconds):
                    raise
            self._wait(seconds)
        raise AssertionError("there is at least one attempt")

    def _wait(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise FetchError(Reason.CONNECT, "the fetcher was closed", retry=True)

    # --- one attempt: redirects, each hop checked and in its host's turn --------------------------------------

    def _follow(self, url: str, ask: Ask) -> Fetched:
        here, seen = urldefrag(url).url, set()
        for _hop in range(self._max_redirects + 1):
            try:
                request = self._request(here, ask)
                if (step := (here, request.headers.get("Cookie"))) in seen:
                    raise FetchError(Reason.REDIRECT_LOOP, "redirects in a circle", retry=False)
                seen.add(step)
                answer = self._ask(request, ask, self._delay_of(here, ask))
            except FetchError as trouble:
                trouble.detail += f", redirected to {here}" if seen and here != urldefrag(url).url else ""
                raise
            if isinstance(answer, Fetched):
                return answer
            here = answer
        raise FetchError(Reason.REDIRECT_LOOP, f"more than {self._max_redirects} redirects", retry=False)

    def _request(self, url: str, ask: Ask):
        import httpx

        checked_url(url)
        try:
            return self._client.build_request("GET", url, headers=ask.headers, cookies=ask.cookies)
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchError(Reason.BAD_LINK, f"not a link: {one_line(error)}", retry=False) from error

    def _delay_of(self, url: str, ask: Ask) -> float:
        parts = checked_url(url)
        if not ask.asks_robots or self._own.allows(parts.hostname, port_of(parts)):
            return self._delay
        with ask.deadline.pause(), clock(None):  # robots.txt has a deadline of its own
            return max(self._delay, self._robots.delay(url))

    def _ask(self, request, ask: Ask, delay: float) -> Fetched | str:
        """The answer, or where it redirects to."""
        with ExitStack() as turn, honest_errors():
            with ask.deadline.pause():
                turn.enter_context(self._turns.turn(request.url.host, delay, wait=self._wait))
            self._wait(0)
            with closing(self._send(request)) as response:
                ask.cookies.extract_cookies(response)
                if location := redirect(response):
                    return _joined(str(request.url), location)
                try:
                    check_status(response, conditional=ask.conditional)
                except FetchError as trouble:
                    if trouble.status == 429 and trouble.wait:
                        self._turns.hold(request.url.host, trouble.wait)  # it was not meant for one link only
                    raise
                return self._read(response, ask)

    def _send(self, request):
        try:
            return self._client.send(request, stream=True)
        except RuntimeError:
            self._wait(0)  # "the client has been closed": by us, meanwhile
            raise

    # --- one answer -----------------------------------------------------------------------------------------

    def _read(self, response, ask: Ask) -> Fetched:
        content_type = response.headers.get("Content-Type", "")
        claimed = decoding.media_type(content_type)
        if claimed not in ("", decoding.BINARY) and not claimed.startswith(ask.accept):
            raise FetchError(
                Reason.WRONG_TYPE, f"{one_line(claimed, 60)} is not {' or '.join(ask.accept)}", retry=False
            )
        body = self._body(response, ask, content_type)
        media = decoding.sniff(content_type, body[:HEAD])
        return Fetched(
            url=str(response.url),
            status=response.status_code,
            media_type=media,
            text=decoding.decode_text(body, content_type) if decoding.is_text(media) else "",
            body=body,
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
        )

    def _body(self, response, ask: Ask, content_type: str) -> bytes:
        """Cut off as soon as it is known to be too large, or of a kind that was not asked for."""
        limit = self._max_bytes if ask.cut_at is None else 2 * ask.cut_at
        coding, announced = response.headers.get("Content-Encoding", ""), response.headers.get("Content-Length", "")
        if ask.cut_at is None and announced.isdigit() and int(announced) > (limit // 2 if coding else limit):
            raise FetchError(Reason.TOO_LARGE, f"{int(announced):,} bytes announced (fetch.max_bytes)", retry=False)
        body, seen = bytearray(), False
        for piece in decoding.decompressed(response.iter_raw(), coding, max_bytes=limit):
            body += piece
            if ask.cut_at is not None and len(body) >= ask.cut_at:
                return bytes(body[: ask.cut_at])
            if not seen and len(body) >= HEAD:
                seen = _check_kind(content_type, body, ask.accept)
        seen or _check_kind(content_type, body, ask.accept)
        return bytes(body)

    # --- robots.txt -----------------------------------------------------------------------------------------

    def _read_robots(self, url: str) -> str | None:
        """None when there is none: RFC 9309, 2.3.1.3, any 4xx but "too many requests", and redirects without end."""
        try:
            headers = {"Accept": "text/plain, */*;q=0.1"}
            fetched = self._persist(url, headers, ("",), asks_robots=False, cut_at=robots.MAX_BYTES)
        except FetchError as trouble:
            refused = trouble.status is not None and 400 <= trouble.status < 500 and trouble.status != 429
            if refused or trouble.reason == Reason.REDIRECT_LOOP:
                return None
            raise
        return fetched.body.decode("utf-8-sig", "replace")


def _check_kind(content_type: str, body: bytearray, accept: tuple[str, ...]) -> bool:
    media = decoding.sniff(content_type, bytes(body[:HEAD]))
    if not media.startswith(accept):
        claimed = decoding.media_type(content_type) or "nothing in particular"
        raise FetchError(Reason.WRONG_TYPE, f"served as {one_line(claimed, 60)}, but holds {media}", retry=False)
    return True


def _joined(here: str, location: str) -> str:
    try:
        return urldefrag(urljoin(here, location)).url
    except ValueError as error:
        raise FetchError(
            Reason.BAD_LINK, f"redirects to what is not a link: {one_line(location, 80)}", retry=False
        ) from error
