"""PDF files as text."""

import base64
import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pdf_files import written
from pypdf import PdfReader, PdfWriter

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning import pdf
from llm_engineering.features.cleaning.clean import clean_body


def changed(data: bytes, change: Callable[[PdfWriter], object]) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def clean(data: bytes):
    return clean_body(base64.b64encode(data).decode(), "application/pdf")


def test_every_page_is_read_and_words_cut_at_the_line_end_are_joined():
    cleaned = clean(written("A first page, and a hy-\nphenated word.", "The second."))
    assert cleaned.text == "A first page, and a hyphenated word.\n\nThe second."
    assert cleaned.syntax == "text"


def test_title_and_date_come_from_the_file():
    data = changed(
        written("Text."), lambda w: w.add_metadata({"/Title": "The  title", "/CreationDate": "D:20240506070809Z"})
    )
    cleaned = clean(data)
    assert cleaned.title == "The title"
    assert cleaned.published_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_wrong_date_in_the_file_is_no_date():
    data = changed(written("Text."), lambda w: w.add_metadata({"/CreationDate": "D:someday"}))
    assert clean(data).published_at is None


def test_a_scan_without_text_is_empty():
    assert clean(written("")).text == ""


def test_an_encrypted_file_says_so():
    with pytest.raises(CleaningError, match="encrypted"):
        clean(changed(written("Secret."), lambda w: w.encrypt("password", algorithm="RC4-128")))


def test_a_file_encrypted_without_a_password_is_read():
    assert clean(changed(written("Open."), lambda w: w.encrypt("", "owner", algorithm="RC4-128"))).text == "Open."


@pytest.mark.parametrize("data", [b"", b"garbage", b"%PDF-1.4\n%%EOF", written("Text.")[:200]])
def test_a_broken_file_says_so(data):
    with pytest.raises(CleaningError, match="cannot be read"):
        clean(data)


def test_what_the_library_does_not_know_keeps_its_cause():
    with pytest.raises(CleaningError, match="cannot be read: Unsupported filter /NoSuchFilter") as caught:
        clean(written("Text.", stream_filter="/NoSuchFilter"))
    assert isinstance(caught.value.__cause__, NotImplementedError)


def test_a_body_that_is_no_base64_says_so():
    with pytest.raises(CleaningError, match="not base64"):
        clean_body("%PDF-1.4 raw", "application/pdf")


def test_too_many_pages_are_refused(monkeypatch):
    monkeypatch.setattr(pdf, "MAX_PAGES", 1)
    with pytest.raises(CleaningError, match="2 pages"):
        clean(written("a", "b"))
