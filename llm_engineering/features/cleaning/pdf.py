"""PDF files: the text layer, page by page."""

import base64
import binascii
import io
import logging
import re
from datetime import UTC, datetime
from typing import Literal

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.plain import clean_text

MAX_PAGES = 2_000


def pdf_to_text(body: str) -> tuple[str, Literal["text"], str, datetime | None]:
    """(text, "text", title, date) of a base64 body. "" when the PDF has no text layer (a scan).

    Raises CleaningError when it is not base64 or not a PDF, when it is encrypted, broken or over MAX_PAGES.
    """
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every small flaw it mends
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise CleaningError("the PDF's body is not base64") from None
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise CleaningError("the PDF is encrypted; store a copy without a password")
        if len(reader.pages) > MAX_PAGES:
            raise CleaningError(f"the PDF has {len(reader.pages)} pages, over the limit of {MAX_PAGES}")
        pages = [page.extract_text() or "" for page in reader.pages]
        title, published = _facts(reader)
    except CleaningError:
        raise
    # pypdf lets errors of its own parsing out as they come
    except (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, RecursionError) as error:
        raise CleaningError(f"the PDF cannot be read ({type(error).__name__}: {error})") from None
    return "\n\n".join(filter(None, map(_page, pages))), "text", title, published


def _page(text: str) -> str:
    """Words cut at a line's end are joined, and so are the lines of a paragraph's middle."""
    text = re.sub(r"(?<=\w)[-\u00ad]\n(?=[a-zß-ÿ])", "", clean_text(text))
    return re.sub(r"[ \t]+", " ", text).strip()


def _facts(reader) -> tuple[str, datetime | None]:
    about = reader.metadata
    if about is None:
        return "", None
    try:
        created = about.creation_date
    except ValueError:  # dates in PDFs are often wrong
        created = None
    if created is not None:
        created = created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    return " ".join(clean_text(about.title or "").split()), created
