"""What the first lines of an HTTP answer mean for a crawler."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import NotModified
from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.backoff import retry_after
from llm_engineering.infrastructure.fetchers.errors import FetchError

if TYPE_CHECKING:
    import httpx

RETRY_NOW = (408, 425, 429, 500, 502, 503, 504)  # answers that another attempt may better
REDIRECTS = (301, 302, 303, 307, 308)
LONGEST_RETRY_AFTER = 30.0  # seconds; who asks for more is left alone until the next run


def redirect(response: "httpx.Response") -> str | None:
    return response.headers.get("Location") if response.status_code in REDIRECTS else None


def check_status(response: "httpx.Response", *, conditional: bool) -> None:
    """Returns for an answer with a body worth reading. Raises NotModified, or FetchError with a reason."""
    status = response.status_code
    if 200 <= status < 300:
        return
    if status == 304 and conditional:
        raise NotModified(str(response.url))
    if response.headers.get("cf-mitigated") == "challenge":
        raise FetchError(Reason.BOT_WALL, f"HTTP {status}, a Cloudflare challenge", retry=False, status=status)
    if status in (429, 503):
        raise _unavailable_for_now(status, response.headers.get("Retry-After"))
    if status in (404, 410):
        raise FetchError(Reason.NOT_FOUND, f"HTTP {status}", retry=False, status=status)
    if status == 401:
        raise FetchError(Reason.LOGIN, "HTTP 401, the page asks for a login", retry=False, status=status)
    retry_now = status in RETRY_NOW
    retry = retry_now or 500 <= status < 600
    raise FetchError(Reason.HTTP_ERROR, f"HTTP {status}", retry=retry, retry_now=retry_now, status=status)


def _unavailable_for_now(status: int, header: str | None) -> FetchError:
    reason = Reason.RATE_LIMITED if status == 429 else Reason.HTTP_ERROR
    wait = retry_after(header)
    if wait is None or wait <= LONGEST_RETRY_AFTER:
        return FetchError(reason, f"HTTP {status}", retry=True, retry_now=True, retry_after=wait, status=status)
    when = datetime.now(UTC) + timedelta(seconds=wait)
    detail = f"HTTP {status}; the site asks to come back after {when:%Y-%m-%d %H:%M} UTC"
    return FetchError(reason, detail, retry=True, status=status)
