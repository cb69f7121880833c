"""What a server can send apart from a page: drips, ends that do not come, packed bombs, lies about itself."""

import gzip
from collections.abc import Callable, Iterator
from time import sleep

from tools.bench.attacks.item import HTML, MEGABYTE, PROSE, Item, head, page_of


def _wire(name: str, wire: Callable[[], Iterator[bytes]]) -> Item:
    return Item(name=name, kind="page", wire=wire)


def _drip() -> Iterator[bytes]:
    yield head(200, ("Content-Type", HTML), ("Connection", "close"))
    while True:
        sleep(0.2)
        yield b"x"


def _drip_of_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        sleep(0.2)
        yield b"X-More: x\r\n"


def _endless() -> Iterator[bytes]:
    yield head(200, ("Content-Type", HTML), ("Connection", "close")) + b"<p>"
    while True:
        yield b"words without end " * 4_000


def _endless_header() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-More: "
    while True:
        yield b"x" * 64_000


def _headers_without_end() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(200_000):
        yield b"X-%d: y\r\n" % number


def _chunks_without_size() -> Iterator[bytes]:
    yield head(200, ("Content-Type", HTML), ("Transfer-Encoding", "chunked")) + b"FFFFFFFFFFFFFFFF\r\n<p>x"


def _packed(name: str, encoding: str, pack: Callable[[], bytes]) -> Item:
    return Item(name=name, kind="page", make=pack, headers=(("Content-Encoding", encoding),))


def _gzip_bomb() -> bytes:
    return gzip.compress(b"<p>" + b"word " * (40 * MEGABYTE), 9, mtime=0)


def _redirect(name: str, location: str) -> Item:
    return _wire(name, lambda: iter([head(302, ("Location", location), ("Content-Length", "0"))]))


def _fine(*headers: tuple[str, str], status: int = 200) -> Callable[[], Iterator[bytes]]:
    data = page_of("A lantern in the harbour")
    length = ("Content-Length", str(len(data)))
    return lambda: iter([head(status, ("Content-Type", HTML), length, *headers) + data])


ANSWERS = (
    _wire("drip", _drip),
    _wire("drip-of-headers", _drip_of_headers),
    _wire("endless", _endless),
    _wire("endless-header", _endless_header),
    _wire("headers-without-end", _headers_without_end),
    _wire("chunk-of-exabytes", _chunks_without_size),
    _wire("nothing", lambda: iter([])),
    _wire("no-http", lambda: iter([b"220 mail.example ESMTP\r\n"])),
    _wire("cut-off", lambda: iter([head(200, ("Content-Type", HTML), ("Content-Length", "1000000000000")) + b"<p>x"])),
    _wire("etag-not-ascii", _fine(("ETag", '"caf\xe9 \xff"'), ("Last-Modified", "caf\xe9"))),
    _wire("etag-of-60-kilobytes", _fine(("ETag", f'"{"e" * 60_000}"'))),
    _wire("status-999", _fine(status=999)),
    _wire("not-modified-unasked", lambda: iter([head(304)])),
    _wire("come-back-in-an-age", _fine(("Retry-After", "999999999999"), status=503)),
    _wire("come-back-on-no-day", _fine(("Retry-After", "Mon, 99 Foo 99999 99:99:99 GMT"), status=429)),
    _redirect("redirect-in-a-circle", "/hostile/redirect-in-a-circle"),
    _redirect("redirect-to-no-link", "http://["),
    _redirect("redirect-inside", "http://169.254.169.254/latest/meta-data/"),
    _redirect("redirect-to-a-file", "file:///etc/passwd"),
    _packed("gzip-bomb", "gzip", _gzip_bomb),
    _packed("gzip-in-gzip", "gzip, gzip, gzip, gzip, gzip, gzip", lambda: gzip.compress(_gzip_bomb(), mtime=0)),
    _packed("gzip-broken", "gzip", lambda: b"\x1f\x8b" + b"garbage" * 1_000),
    _packed("brotli-that-is-none", "br", lambda: PROSE.encode()),
)
