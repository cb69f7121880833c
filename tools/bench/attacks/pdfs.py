"""PDF files, written by hand."""

import zlib

from tools.bench.attacks.item import MEGABYTE, PROSE, Item, file_item


def _pdf(name: str, *objects: bytes, trailer: bytes = b"") -> Item:
    """The objects are numbered from 3 on; the first of them is the page."""
    return file_item(f"pdf-{name}.pdf", lambda: _pdf_of(objects, trailer))


def _pdf_of(objects: tuple[bytes, ...], trailer: bytes = b"", kids: bytes = b"[3 0 R]", count: int = 1) -> bytes:
    pages = b"<< /Type /Pages /Count %d /Kids %s >>" % (count, kids)
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate((b"<< /Type /Catalog /Pages 2 0 R >>", pages, *objects), 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(places) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    start = data.rindex(b"xref")
    return data + b"trailer\n<< /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF" % (size, trailer, start)


def _page(resources: bytes = b"/Font << /F1 5 0 R >>") -> bytes:
    return b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << %s >> >>" % resources


def _stream(data: bytes, filters: bytes = b"") -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (filters, len(data), data)


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
WORDS = b"BT /F1 12 Tf (A lantern in the harbour) Tj ET "


def _bomb() -> bytes:
    """A stream of a few hundred kilobytes that unpacks to 400 MB."""
    return _stream(zlib.compress(WORDS + bytes(400 * MEGABYTE), 9), b"/Filter /FlateDecode")


def _bomb_in_bomb() -> bytes:
    inner = zlib.compress(bytes(200 * MEGABYTE), 9)
    return _stream(zlib.compress(inner, 9), b"/Filter [/FlateDecode /FlateDecode]")


def _unicode_map() -> bytes:
    return _stream(
        b"begincmap 1 begincodespacerange <00> <FF> endcodespacerange\n"
        b"1 beginbfrange <0000> <7FFFFFFF> <0041> endbfrange endcmap"
    )


PDFS = (
    file_item("pdf-stream-bomb.pdf", lambda: _pdf_of((_page(), _bomb(), FONT))),
    file_item("pdf-bomb-in-a-bomb.pdf", lambda: _pdf_of((_page(), _bomb_in_bomb(), FONT))),
    file_item("pdf-pages-in-a-circle.pdf", lambda: _pdf_of((_page(),), kids=b"[2 0 R]")),
    file_item("pdf-a-billion-pages.pdf", lambda: _pdf_of((_page(), _stream(WORDS), FONT), count=10**9)),
    file_item(
        "pdf-page-a-thousand-times.pdf",
        lambda: _pdf_of((_page(), _stream(WORDS * 200), FONT), kids=b"[%s]" % (b"3 0 R " * 1_900), count=1_900),
    ),
    _pdf(
        "encrypted",
        _page(),
        _stream(WORDS),
        FONT,
        trailer=b"/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >> "
        % (b"00" * 32, b"11" * 32),
    ),
    _pdf("scanned", b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"),
    _pdf("operators", _page(), _stream(b"q " * 300_000 + WORDS), FONT),
    _pdf("deep-array", _page(), _stream(b"[" * 100_000), FONT),
    _pdf("text-without-end", _page(), _stream(b"BT /F1 12 Tf " + b"(a) Tj T* " * 100_000), FONT),
    file_item(
        "pdf-map-of-everything.pdf",
        lambda: _pdf_of((_page(), _stream(WORDS), FONT[:-2] + b"/ToUnicode 6 0 R >>", _unicode_map())),
    ),
    _pdf(
        "absurd-date", _page(), _stream(WORDS), FONT, b"<< /CreationDate (D:99999999999999) >>", trailer=b"/Info 6 0 R "
    ),
    file_item("pdf-cut-off.pdf", lambda: _pdf_of((_page(), _stream(WORDS), FONT))[:300]),
    file_item(
        "pdf-table-of-itself.pdf",
        lambda: b"%PDF-1.4\nxref\n0 1\ntrailer\n<< /Size 1 /Root 1 0 R /Prev 9 >>\nstartxref\n9\n%%EOF",
    ),
    file_item("pdf-that-is-a-page.pdf", lambda: f"<html><p>{PROSE}".encode()),
)
