"""What a site lets crawlers read (RFC 9309)."""

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError

if TYPE_CHECKING:
    from protego import Protego

MAX_BYTES = 512_000  # RFC 9309, 2.5: at least 500 KiB are read; what comes after is ignored
RULES_LIFETIME = 24 * 3600.0  # seconds; RFC 9309, 2.4: no longer than a day
FAILURE_LIFETIME = 60.0  # seconds until a robots.txt that could not be read is asked for again
LONGEST_DELAY = 30.0  # seconds; a crawl-delay above this is taken as this
MOST_NAMES = 20  # under which a site may speak to us
MAX_SITES = 2_000  # remembered
USER_AGENT_LINE = re.compile(r"\s*user[- ]?agent\s*(?::|\s)", re.IGNORECASE)
UNREACHABLE = (Reason.DNS, Reason.CONNECT, Reason.TLS, Reason.TIMEOUT, Reason.BLOCKED_ADDRESS, Reason.BAD_LINK)


class SiteRules(NamedTuple):
    expires: float
    parsed: "Protego | None" = None  # None: everything is allowed
    error: FetchError | None = None


class Robots:
    """Asks each site for its robots.txt once a day, through `read`: url -> text. `read` raises FetchError.

    This is the whole policy: a site without a robots.txt may be read, one that cannot say may not for now.
    """

    def __init__(
        self, *, user_agent: str, read: Callable[[str], str], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._user_agent, self._read, self._now = user_agent, read, now
        self._lock = threading.Lock()
        self._sites: dict[str, SiteRules] = {}
        self._site_locks: dict[str, threading.Lock] = {}

    def delay(self, url: str) -> float:
        """Seconds the site wants between two requests. Raises FetchError when it does not want this link read."""
        rules = self._rules(url)
        if rules.error is not None:
            raise _as_robots_error(rules.error)
        if rules.parsed is None:
            return 0.0
        with self._lock:  # protego remembers matches as it goes
            allowed = rules.parsed.can_fetch(url, self._user_agent)
            seconds = rules.parsed.crawl_delay(self._user_agent) or 0.0
            rate = rules.parsed.request_rate(self._user_agent)
        if not allowed:
            detail = "robots.txt disallows it; if the site is yours, add its host to fetch.own_hosts"
            raise FetchError(Reason.ROBOTS, detail, retry=False)
        if rate and rate.requests > 0:
            seconds = max(seconds, rate.seconds / rate.requests)
        return min(max(seconds, 0.0), LONGEST_DELAY)

    def _rules(self, url: str) -> SiteRules:
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}".lower()
        if rules := self._cached(site):
            return rules
        with self._lock:
            site_lock = self._site_locks.setdefault(site, threading.Lock())
        with site_lock:  # one thread asks, the others of this site wait for its answer
            if rules := self._cached(site):
                return rules
            rules = self._fetch_rules(site)
            with self._lock:
                self._sites.pop(site, None)
                self._sites[site] = rules
                while len(self._sites) > MAX_SITES:
                    oldest = next(iter(self._sites))
                    del self._sites[oldest]
                    self._site_locks.pop(oldest, None)
            return rules

    def _cached(self, site: str) -> SiteRules | None:
        with self._lock:
            rules = self._sites.get(site)
        return rules if rules and rules.expires > self._now() else None

    def _fetch_rules(self, site: str) -> SiteRules:
        from protego import Protego

        try:
            text = self._read(f"{site}/robots.txt")
        except FetchError as error:
            if _says_there_is_none(error):
                return SiteRules(self._now() + RULES_LIFETIME)
            return SiteRules(self._now() + FAILURE_LIFETIME, error=error)
        rules = for_agent(text[:MAX_BYTES].replace("\x00", ""), self._user_agent)
        return SiteRules(self._now() + RULES_LIFETIME, parsed=Protego.parse(rules))


def for_agent(text: str, user_agent: str) -> str:
    """The same robots.txt with every user agent that cannot be us called "-": a parser repeats each rule for each agent
    of its group, which are thousands of thousands in a hostile one."""
    agent, kept, lines = user_agent.lower(), set[str](), list[str]()
    for line in text.splitlines():
        if named := USER_AGENT_LINE.match(line):
            name = line[named.end() :].partition("#")[0].strip().lower()
            if not name or (name.replace("*", "") in agent and len(kept | {name}) <= MOST_NAMES):
                kept.add(name)
            else:
                name = "-"
            line = f"User-agent: {name}"
            if lines and lines[-1] == line:
                continue
        lines.append(line)
    return "\n".join(lines)


def _says_there_is_none(error: FetchError) -> bool:
    """RFC 9309, 2.3.1.3: any 4xx (but "too many requests"), and redirects without end."""
    refused = error.status is not None and 400 <= error.status < 500 and error.status != 429
    return refused or error.reason == Reason.REDIRECT_LOOP


def _as_robots_error(error: FetchError) -> FetchError:
    """A fresh exception for each link. A site that cannot be reached at all says so itself."""
    if error.reason in UNREACHABLE:
        return FetchError(error.reason, error.detail, retry=error.retry)
    detail = f"robots.txt could not be read ({error.detail}), so nothing is read for now"
    return FetchError(Reason.ROBOTS, detail, retry=True)
