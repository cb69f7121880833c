"""From the bytes on the wire to text: bounded decompression, what the bytes are, and in which charset."""

import codecs
import re
import zlib
from collections.abc import Iterator

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, one_line

ACCEPT_ENCODING = "gzip, deflate, br"
PIECE = 1 << 16  # bytes that a decoder may give at a time, however much a few bytes blow up to
GUESS_BYTES = 100_000  # of a page, to guess its charset from


class Inflate:
    """gzip (members in a row too) and deflate (with the zlib header or, as some servers send it, without)."""

    def __init__(self, coding: str) -> None:
        self._coding, self._decoder, self._begun = coding, zlib.decompressobj(47), False  # 47: gzip or zlib
        self.finished = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self.finished:
            try:
                piece = self._decoder.decompress(data, PIECE)
            except zlib.error:
                if self._begun or self._coding != "deflate":
                    raise
                self._decoder = zlib.decompressobj(-15)  # raw
                piece = self._decoder.decompress(data, PIECE)
            self._begun = True
            if piece:
                yield piece
            data = self._decoder.unconsumed_tail
            if self._decoder.eof:
                data = self._decoder.unused_data
                self.finished = self._coding != "gzip" or not data.startswith(b"\x1f\x8b")
                if not self.finished:
                    self._decoder = zlib.decompressobj(47)

    def end(self) -> Iterator[bytes]:
        piece = self._decoder.flush()
        if piece:
            yield piece
        self.finished = self.finished or self._decoder.eof


class Unbrotli:
    def __init__(self) -> None:
        import brotli

        self._decoder = brotli.Decompressor()

    @property
    def finished(self) -> bool:
        return self._decoder.is_finished()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.finished:
            return
        piece = self._decoder.process(data, output_buffer_limit=PIECE)
        while piece or not self._decoder.can_accept_more_data():  # it may accept more, and yet have more to give
            yield piece
            if self.finished:
                return
            piece = self._decoder.process(b"", output_buffer_limit=PIECE)

    def end(self) -> Iterator[bytes]:
        return iter(())


def decoder(content_encoding: str) -> Inflate | Unbrotli | None:
    """For a Content-Encoding header; None when the bytes are plain. Raises Trouble for what was not asked for."""
    coding = content_encoding.strip().lower().removeprefix("x-")
    match coding:
        case "" | "identity":
            return None
        case "gzip" | "deflate":
            return Inflate(coding)
        case "br":
            return Unbrotli()
    raise FetchError(Reason.BAD_ENCODING, f"compressed as {one_line(coding, 40)}, which was not asked for", retry=False)


def decompressed(chunks: Iterator[bytes], content_encoding: str, *, max_bytes: int) -> Iterator[bytes]:
    """The plain bytes, in pieces. At most half of `max_bytes` compressed and `max_bytes` plain are ever taken in; more
    raises Trouble(TOO_LARGE), broken compression Trouble(BAD_ENCODING), an early end Trouble(CONNECT)."""
    decode = decoder(content_encoding)
    wire = _at_most(max_bytes if decode is None else max_bytes // 2, chunks, "" if decode is None else "compressed ")
    if decode is None:
        yield from wire
        return
    try:
        yield from _at_most(max_bytes, _decode(decode, wire), "decompressed ")
    except _broken() as error:
        detail = f"the {content_encoding} body is broken: {one_line(error)}"
        raise FetchError(Reason.BAD_ENCODING, detail, retry=False) from error


def _decode(decode: Inflate | Unbrotli, wire: Iterator[bytes]) -> Iterator[bytes]:
    empty = True
    for data in wire:
        empty = False
        yield from decode.feed(data)
    yield from decode.end()
    if not empty and not decode.finished:
        raise FetchError(Reason.CONNECT, "the compressed body ended early", retry=True, again=True)


def _broken() -> tuple[type[Exception], ...]:
    import brotli

    return zlib.error, brotli.error


def _at_most(limit: int, pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise FetchError(Reason.TOO_LARGE, f"more than {limit:,} {what}bytes (fetch.max_bytes)", retry=False)
        yield piece


# --- what the bytes are --------------------------------------------------------------------------------------

MAGIC = (  # https://mimesniff.spec.whatwg.org, the kinds a page is mistaken for
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x7fELF", "application/x-executable"),
    (b"OggS\x00", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
BINARY = "application/octet-stream"


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def sniff(content_type: str, head: bytes) -> str:
    """The media type of a body: its magic number before what the server claims; a guess where it claims nothing.

    Text is not full of NUL bytes, except in the UTF-16 and UTF-32 charsets, which say so.
    """
    claimed = media_type(content_type)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head[:4] == b"RIFF":
        return "image/webp" if head[8:12] == b"WEBP" else "audio/wav"
    for magic, found in MAGIC:
        if head.startswith(magic):
            return found
    wide = byte_order(head)[0] or re.search(r"utf-?(16|32)", content_type, re.I)
    if not wide and head.count(0) * 50 > len(head):
        return BINARY if not claimed or is_text(claimed) else claimed
    if claimed and claimed != BINARY:
        return claimed
    return "text/html" if re.search(rb"<(!doctype\s+html|html|head|body|title|p|div)\b", head, re.I) else "text/plain"


def is_text(media: str) -> bool:
    return media.startswith("text/") or media.endswith(("json", "xml", "javascript", "yaml"))


# --- in which charset ----------------------------------------------------------------------------------------

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
META = re.compile(rb"""<meta[^>]{0,400}?charset\s*=\s*["']?\s*([\w.:+-]{2,40})""", re.I)
XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:+-]{2,40})""", re.I)
HEADER = re.compile(r"""charset\s*=\s*["']?\s*([\w.:+-]{2,40})""", re.I)
# What browsers take these names to mean (https://encoding.spec.whatwg.org/#names-and-labels).
LABELS = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
LABELS |= {"euc_kr": "cp949", "iso8859-9": "cp1254", "tis-620": "cp874", "iso8859-11": "cp874"}
# Codecs of Python that no page is written in, or that are an attack when one is.
REFUSED = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7", "mbcs", "oem"}
WIDE = ("gb18030", "big5", "cp932", "cp949", "euc", "iso2022", "johab", "utf-16", "utf-32", "hz")


def decode_text(body: bytes, content_type: str = "") -> str:
    """Byte-order mark, then header, then what the page says of itself, then a guess. A claim that the bytes refute
    gives way: valid UTF-8 wins over a single-byte claim, and what cannot be decoded becomes U+FFFD."""
    charset, length = byte_order(body)
    if charset:
        return body[length:].decode(charset, "replace")
    claims = [name for name in map(_codec, _claims(body, content_type)) if name]
    for claim in claims:
        if claim.startswith(WIDE) and (text := _strictly(body, claim)) is not None:
            return text
    # A text in a single-byte charset is hardly ever UTF-8 by accident; a few broken bytes do not unmake a UTF-8 page.
    if (text := _mostly(body, "utf-8", 0.1)) is not None:
        return text
    for claim in claims:
        if (text := _mostly(body, claim, 0.5)) is not None:
            return text
    return body.decode(_guess(body) or (claims[0] if claims else "utf-8"), "replace")


def byte_order(body: bytes) -> tuple[str, int]:
    return next(((charset, len(bom)) for bom, charset in BOMS if body.startswith(bom)), ("", 0))


def _claims(body: bytes, content_type: str) -> Iterator[str]:
    if found := HEADER.search(content_type):
        yield found[1]
    head = body[:4096]
    for pattern in (XML, META):
        if match := pattern.search(head):
            yield match[1].decode("ascii")


def _codec(label: str) -> str | None:
    try:
        name = codecs.lookup(label).name
        "".encode(name)  # refuses codecs from bytes to bytes
    except (LookupError, UnicodeError, ValueError):
        return None
    return None if name in REFUSED else LABELS.get(name, name)


def _strictly(body: bytes, charset: str) -> str | None:
    if charset.startswith(("utf-16", "utf-32")) and b"\x00" not in body:
        return None  # a page that calls itself UTF-16 in ASCII letters
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None


def _mostly(body: bytes, charset: str, broken: float) -> str | None:
    """The text, if no more than this share of its characters beyond ASCII could not be decoded."""
    text = body.decode(charset, "replace")
    bad = text.count("\ufffd")
    return text if not bad or bad <= broken * sum(c > "\x7f" for c in text) else None


def _guess(body: bytes) -> str | None:
    """charset-normalizer's, except that between equals the Western charset wins, as in browsers."""
    from charset_normalizer import from_bytes

    found = list(from_bytes(body[:GUESS_BYTES]))
    if not found:
        return None
    equals = [one for one in found if (one.chaos, one.coherence) == (found[0].chaos, found[0].coherence)]
    return "cp1252" if any("cp1252" in one.could_be_from_charset for one in equals) else found[0].encoding
