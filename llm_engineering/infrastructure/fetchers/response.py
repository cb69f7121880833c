"""The body of an HTTP answer, cut off as soon as it is known to be too large or of a kind that was not asked for."""

import re
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Fetched
from llm_engineering.infrastructure.fetchers.charset import decode_text
from llm_engineering.infrastructure.fetchers.decompression import decompressed
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line
from llm_engineering.infrastructure.fetchers.media_type import BINARY, is_text, media_type, sniff

if TYPE_CHECKING:
    import httpx

HEAD = 1024  # bytes, enough to see what a body is
LONGEST_VALIDATOR = 1024  # characters


class BodyLimits(NamedTuple):
    """`accept` are prefixes of media types; ("",) for any."""

    max_bytes: int  # decompressed
    accept: tuple[str, ...]
    truncate: bool = False  # take `max_bytes` and be content, instead of raising TOO_LARGE


def read_response(response: "httpx.Response", limits: BodyLimits) -> Fetched:
    """Raises FetchError: WRONG_TYPE, TOO_LARGE, BAD_ENCODING, or CONNECT for a body that ends early."""
    content_type = response.headers.get("Content-Type", "")
    claimed = media_type(content_type)
    if claimed not in ("", BINARY) and not claimed.startswith(limits.accept):
        detail = f"{printable_line(claimed, 60)} is not {' or '.join(limits.accept)}"
        raise FetchError(Reason.WRONG_TYPE, detail, retry=False)
    body = _read_body(response, limits, content_type)
    media = sniff(content_type, body[:HEAD])
    return Fetched(
        url=str(response.url),
        status=response.status_code,
        media_type=media,
        text=decode_text(body, content_type) if is_text(media) else "",
        body=body,
        etag=validator(response.headers.get("ETag")),
        last_modified=validator(response.headers.get("Last-Modified")),
    )


def validator(header: str | None) -> str | None:
    """An ETag or Last-Modified that can be sent back as it came; any other is as good as none. Only ASCII is: HTTP
    does not say in which charset another one came."""
    value = (header or "").strip()
    fits = 0 < len(value) <= LONGEST_VALIDATOR and value.isascii() and value.isprintable()
    return value if fits else None


def _read_body(response: "httpx.Response", limits: BodyLimits, content_type: str) -> bytes:
    limit = 2 * limits.max_bytes if limits.truncate else limits.max_bytes
    coding, announced = response.headers.get("Content-Encoding", ""), response.headers.get("Content-Length", "")
    size = int(announced) if re.fullmatch("[0-9]{1,20}", announced) else 0
    if not limits.truncate and size > (limit // 2 if coding else limit):
        raise FetchError(Reason.TOO_LARGE, f"{size:,} bytes announced (fetch.max_bytes)", retry=False)
    body, checked = bytearray(), False
    for piece in decompressed(response.iter_raw(), coding, max_bytes=limit):
        body += piece
        if limits.truncate and len(body) >= limits.max_bytes:
            return bytes(body[: limits.max_bytes])
        if not checked and len(body) >= HEAD:
            _check_media_type(content_type, body, limits.accept)
            checked = True
    if not checked:
        _check_media_type(content_type, body, limits.accept)
    return bytes(body)


def _check_media_type(content_type: str, body: bytearray, accept: tuple[str, ...]) -> None:
    media = sniff(content_type, bytes(body[:HEAD]))
    if not media.startswith(accept):
        claimed = media_type(content_type) or "nothing in particular"
        detail = f"served as {printable_line(claimed, 60)}, but holds {media}"
        raise FetchError(Reason.WRONG_TYPE, detail, retry=False)
