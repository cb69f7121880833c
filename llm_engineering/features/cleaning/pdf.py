"""PDF files: the text layer, page by page."""

import base64
import binascii
import io
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.plain import clean_text

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_PAGES = 2_000
MAX_TEXT = 20_000_000  # characters of all pages; the largest books have a tenth of it
MAX_STREAM = 20_000_000  # bytes of one stream, unpacked, whatever packed it; a page of text has thousands
MAX_WORK = 100_000_000  # bytes that all filters of one stream may give together
MAX_FORMS = 1_000  # drawn on one page; forms that draw forms multiply


def clean_pdf(body: str) -> Cleaned:
    """The text layer of a base64 body, and the title and date it names. "" when there is none (a scan).

    Raises CleaningError when it is not base64 or not a PDF, when it is encrypted, broken, over MAX_PAGES or written in
    a way that pypdf does not know.
    """
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise CleaningError("the PDF's body is not base64") from None
    try:
        pages, title, created = _read(data)
    except CleaningError:
        raise
    except Exception as error:  # only pypdf was at work, which lets errors of its own parsing out as they come, and
        # asks for as much memory as a few bytes of a PDF say
        raise CleaningError(f"the PDF cannot be read: {error}") from error
    text = "\n\n".join(filter(None, map(_page_text, pages)))
    return Cleaned(text, "text", " ".join(clean_text(title).split()), created)


def _read(data: bytes) -> tuple[list[str], str, datetime | None]:
    """(text of each page, title, date) as pypdf gives them."""
    from pypdf import PdfReader, apply_configuration

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every small flaw it mends
    with apply_configuration(
        maximum_declared_stream_length=MAX_STREAM,
        array_based_stream_maximum_output_length=MAX_STREAM,
        zlib_maximum_output_length=MAX_STREAM,
        lzw_maximum_output_length=MAX_STREAM,
        run_length_maximum_output_length=MAX_STREAM,
        brotli_maximum_output_length=MAX_STREAM,
        jbig2_maximum_output_length=MAX_STREAM,
        stream_decoding_work_maximum_length=MAX_WORK,
        xform_maximum_invocations_per_extraction=MAX_FORMS,
    ):
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise CleaningError("the PDF is encrypted; store a copy without a password")
        if len(reader.pages) > MAX_PAGES:
            raise CleaningError(f"the PDF has {len(reader.pages)} pages, over the limit of {MAX_PAGES}")
        pages = _page_texts(reader)
        about = reader.metadata
        title = about.title if about else None
        return pages, title if isinstance(title, str) else "", _created(reader)


def _page_texts(reader: "PdfReader") -> list[str]:
    pages, room = [], MAX_TEXT
    for page in reader.pages:
        pages.append(page.extract_text() or "")
        room -= len(pages[-1])
        if room < 0:
            raise CleaningError(f"the PDF holds over {MAX_TEXT:,} characters; split it")
    return pages


def _created(reader: "PdfReader") -> datetime | None:
    try:
        created = reader.metadata.creation_date if reader.metadata else None
        if created is None:
            return None
        return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # dates in PDFs are often wrong
        return None


def _page_text(text: str) -> str:
    """Words cut at a line's end are joined, and so are the lines of a paragraph's middle."""
    text = re.sub(r"(?<=\w)[-\u00ad]\n(?=[a-zß-ÿ])", "", clean_text(text))
    return re.sub(r"[ \t]+", " ", text).strip()
