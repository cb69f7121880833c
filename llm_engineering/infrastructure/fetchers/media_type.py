"""What a body is: its magic number before what the server claims."""

import re

from w3lib.encoding import read_bom

MAGIC_NUMBERS = (  # https://mimesniff.spec.whatwg.org, the kinds a page is mistaken for
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
    for magic, found in MAGIC_NUMBERS:
        if head.startswith(magic):
            return found
    wide_charset = read_bom(head)[0] or re.search(r"utf-?(16|32)", content_type, re.I)
    if not wide_charset and head.count(0) * 50 > len(head):
        return BINARY if not claimed or is_text(claimed) else claimed
    if claimed and claimed != BINARY:
        return claimed
    return "text/html" if re.search(rb"<(!doctype\s+html|html|head|body|title|p|div)\b", head, re.I) else "text/plain"


def is_text(media: str) -> bool:
    return media.startswith("text/") or media.endswith(("json", "xml", "javascript", "yaml"))
