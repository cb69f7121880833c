"""Bodies decompressed piece by piece, so that no answer can unfold beyond its limit."""

import zlib
from collections.abc import Iterator

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line

ACCEPT_ENCODING = "gzip, deflate, br"
PIECE = 1 << 16  # bytes that a decoder may give at a time, however much a few bytes blow up to


class InflateDecoder:
    """gzip (members in a row too) and deflate (with the zlib header or, as some servers send it, without)."""

    def __init__(self, coding: str) -> None:
        self._coding, self._decoder, self._started = coding, zlib.decompressobj(47), False  # 47: gzip or zlib
        self.finished = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self.finished:
            try:
                piece = self._decoder.decompress(data, PIECE)
            except zlib.error:
                if self._started or self._coding != "deflate":
                    raise
                self._decoder = zlib.decompressobj(-15)  # raw
                piece = self._decoder.decompress(data, PIECE)
            self._started = True
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


class BrotliDecoder:
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


def _decoder_for(content_encoding: str) -> InflateDecoder | BrotliDecoder | None:
    """For a Content-Encoding header; None when the bytes are plain. Raises FetchError for what was not asked for."""
    coding = content_encoding.strip().lower().removeprefix("x-")
    match coding:
        case "" | "identity":
            return None
        case "gzip" | "deflate":
            return InflateDecoder(coding)
        case "br":
            return BrotliDecoder()
    detail = f"compressed as {printable_line(coding, 40)}, which was not asked for"
    raise FetchError(Reason.BAD_ENCODING, detail, retry=False)


def decompressed(chunks: Iterator[bytes], content_encoding: str, *, max_bytes: int) -> Iterator[bytes]:
    """The plain bytes, in pieces. At most half of `max_bytes` compressed and `max_bytes` plain are ever taken in; more
    raises FetchError(TOO_LARGE), broken compression FetchError(BAD_ENCODING), an early end FetchError(CONNECT)."""
    decoder = _decoder_for(content_encoding)
    if decoder is None:
        yield from _at_most(max_bytes, chunks, "bytes")
        return
    compressed = _at_most(max_bytes // 2, chunks, "compressed bytes")
    try:
        yield from _at_most(max_bytes, _decoded(decoder, compressed), "decompressed bytes")
    except _decoder_errors() as error:
        detail = f"the {content_encoding} body is broken: {printable_line(error)}"
        raise FetchError(Reason.BAD_ENCODING, detail, retry=False) from error


def _decoded(decoder: InflateDecoder | BrotliDecoder, chunks: Iterator[bytes]) -> Iterator[bytes]:
    empty = True
    for chunk in chunks:
        empty = False
        yield from decoder.feed(chunk)
    yield from decoder.end()
    if not empty and not decoder.finished:
        raise FetchError(Reason.CONNECT, "the compressed body ended early", retry=True, retry_now=True)


def _decoder_errors() -> tuple[type[Exception], ...]:
    import brotli

    return zlib.error, brotli.error


def _at_most(limit: int, pieces: Iterator[bytes], unit: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise FetchError(Reason.TOO_LARGE, f"more than {limit:,} {unit} (fetch.max_bytes)", retry=False)
        yield piece
