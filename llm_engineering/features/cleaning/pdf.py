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
    except (CleaningError, MemoryError):
        raise
    except Exception as error:  # only pypdf was at work, which lets errors of its own parsing out as they come
        raise CleaningError(f"the PDF cannot be read: {error}") from error
    text = "\n\n".join(filter(None, map(_page_text, pages)))
    return Cleaned(text, "text", " ".join(clean_text(title).split()), created)


def _read(data: bytes) -> tuple[list[str], str, datetime | None]:
    """(text of each page, title, date) as pypdf gives them."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every small flaw it mends
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise CleaningError("the PDF is encrypted; store a copy without a password")
    if len(reader.pages) > MAX_PAGES:
        raise CleaningError(f"the PDF has {len(reader.pages)} pages, over the limit of {MAX_PAGES}")
    pages = [page.extract_text() or "" for page in reader.pages]
    about = reader.metadata
    return pages, (about.title if about else None) or "", _created(reader)


def _created(reader: "PdfReader") -> datetime | None:
    try:
        created = reader.metadata.creation_date if reader.metadata else None
    except ValueError:  # dates in PDFs are often wrong
        return None
    if created is None:
        return None
    return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)


def _page_text(text: str) -> str:
    """Words cut at a line's end are joined, and so are the lines of a paragraph's middle."""
    text = re.sub(r"(?<=\w)[-\u00ad]\n(?=[a-zß-ÿ])", "", clean_text(text))
    return re.sub(r"[ \t]+", " ", text).strip()
