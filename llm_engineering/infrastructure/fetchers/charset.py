"""From the bytes of a page to its text.

w3lib reads what a page claims to be written in, as browsers do. Whether to believe it is decided here: w3lib's
`html_to_unicode` believes every claim, and garbles a UTF-8 page that calls itself Latin-1
(`test_a_wrong_or_missing_charset_still_gives_the_words`).
"""

from w3lib.encoding import html_body_declared_encoding, http_content_type_encoding, read_bom

GUESS_BYTES = 100_000  # of a page, to guess its charset from
REFUSED = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}  # codecs of Python that no page is written in
MULTI_BYTE = ("gb18030", "big5", "cp932", "cp949", "euc", "iso2022", "johab", "utf-16", "utf-32", "hz")


def decode_text(body: bytes, content_type: str = "") -> str:
    """Byte-order mark, then header, then what the page says of itself, then a guess. A claim that the bytes refute
    gives way: valid UTF-8 wins over a single-byte claim, and what cannot be decoded becomes U+FFFD."""
    charset, mark = read_bom(body)
    if charset and mark:
        return body[len(mark) :].decode(charset, "replace")
    claims = [one for one in (http_content_type_encoding(content_type), html_body_declared_encoding(body)) if one]
    claims = [claim for claim in claims if _is_text_codec(claim)]
    for claim in claims:
        if claim.startswith(MULTI_BYTE) and (text := _decoded_strictly(body, claim)) is not None:
            return text
    # A text in a single-byte charset is hardly ever UTF-8 by accident; a few broken bytes do not unmake a UTF-8 page.
    if (text := _decoded_mostly(body, "utf-8", 0.1)) is not None:
        return text
    for claim in claims:
        if (text := _decoded_mostly(body, claim, 0.5)) is not None:
            return text
    return body.decode(_guessed_charset(body) or (claims[0] if claims else "utf-8"), "replace")


def _is_text_codec(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, UnicodeError):  # from bytes to bytes (base64), or from nothing to nothing (undefined)
        return False
    return name not in REFUSED


def _decoded_strictly(body: bytes, charset: str) -> str | None:
    if charset.startswith(("utf-16", "utf-32")) and b"\x00" not in body:
        return None  # a page that calls itself UTF-16 in ASCII letters
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None


def _decoded_mostly(body: bytes, charset: str, broken: float) -> str | None:
    """The text, if no more than this share of its characters beyond ASCII could not be decoded."""
    text = body.decode(charset, "replace")
    bad = text.count("\ufffd")
    return text if not bad or bad <= broken * sum(c > "\x7f" for c in text) else None


def _guessed_charset(body: bytes) -> str | None:
    """charset-normalizer's, except that between equals the Western charset wins, as in browsers."""
    from charset_normalizer import from_bytes

    found = list(from_bytes(body[:GUESS_BYTES]))
    if not found:
        return None
    equals = [one for one in found if (one.chaos, one.coherence) == (found[0].chaos, found[0].coherence)]
    return "cp1252" if any("cp1252" in one.could_be_from_charset for one in equals) else found[0].encoding
