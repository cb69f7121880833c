"""What a site lets crawlers read (RFC 9309)."""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError

MAX_BYTES = 512_000  # RFC 9309, 2.5: at least 500 KiB are read; what comes after is ignored
GOOD_FOR = 24 * 3600.0  # seconds; RFC 9309, 2.4: no longer than a day
BAD_FOR = 60.0  # seconds until a robots.txt that could not be read is asked for again
LONGEST_DELAY = 30.0  # seconds; a crawl-delay above this is taken as this
MOST_SITES = 2_000  # remembered
UNREACHABLE = (Reason.DNS, Reason.CONNECT, Reason.TLS, Reason.TIMEOUT, Reason.BLOCKED_ADDRESS, Reason.BAD_LINK)


class Rules(NamedTuple):
    expires: float
    parsed: Any = None  # protego.Protego; None: everything is allowed
    trouble: FetchError | None = None


class Robots:
    """Asks each site for its robots.txt once a day, through `read`: url -> text, or None when the site has none.

    `read` raises Trouble when the site cannot say; then nothing may be read for now.
    """

    def __init__(
        self, *, user_agent: str, read: Callable[[str], str | None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._user_agent, self._read, self._now = user_agent, read, now
        self._lock = threading.Lock()
        self._sites: dict[str, Rules] = {}
        self._asking: dict[str, threading.Lock] = {}

    def delay(self, url: str) -> float:
        """Seconds the site wants between two requests. Raises Trouble when it does not want this link read."""
        rules = self._rules(url)
        if rules.trouble is not None:
            raise _as_robots(rules.trouble)
        if rules.parsed is None:
            return 0.0
        with self._lock:  # protego remembers matches as it goes
            allowed = rules.parsed.can_fetch(url, self._user_agent)
            wanted = rules.parsed.crawl_delay(self._user_agent) or 0.0
            rate = rules.parsed.request_rate(self._user_agent)
        if not allowed:
            detail = "robots.txt disallows it; if the site is yours, add its host to fetch.own_hosts"
            raise FetchError(Reason.ROBOTS, detail, retry=False)
        if rate and rate.requests > 0:
            wanted = max(wanted, rate.seconds / rate.requests)
        return min(max(wanted, 0.0), LONGEST_DELAY)

    def _rules(self, url: str) -> Rules:
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}".lower()
        if rules := self._known(site):
            return rules
        with self._lock:
            asking = self._asking.setdefault(site, threading.Lock())
        with asking:  # one thread asks, the others of this site wait for its answer
            if rules := self._known(site):
                return rules
            rules = self._ask(site)
            with self._lock:
                self._sites.pop(site, None)
                self._sites[site] = rules
                while len(self._sites) > MOST_SITES:
                    oldest = next(iter(self._sites))
                    del self._sites[oldest]
                    self._asking.pop(oldest, None)
            return rules

    def _known(self, site: str) -> Rules | None:
        with self._lock:
            rules = self._sites.get(site)
        return rules if rules and rules.expires > self._now() else None

    def _ask(self, site: str) -> Rules:
        from protego import Protego

        try:
            text = self._read(f"{site}/robots.txt")
        except FetchError as trouble:
            return Rules(self._now() + BAD_FOR, trouble=trouble)
        if text is None:
            return Rules(self._now() + GOOD_FOR)
        return Rules(self._now() + GOOD_FOR, parsed=Protego.parse(text.replace("\x00", "")))


def _as_robots(trouble: FetchError) -> FetchError:
    """A fresh exception for each link. A site that cannot be reached at all says so itself."""
    if trouble.reason in UNREACHABLE:
        return FetchError(trouble.reason, trouble.detail, retry=trouble.retry)
    detail = f"robots.txt could not be read ({trouble.detail}), so nothing is read for now"
    return FetchError(Reason.ROBOTS, detail, retry=True)
