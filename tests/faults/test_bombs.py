"""A few bytes that stand for more than any memory or patience are refused, in time, by name."""

import base64
import json
import time
import zlib
from contextlib import suppress

import pytest
from pdf_files import written

from llm_engineering.domain.errors import CleaningError, SourceError
from llm_engineering.features.cleaning import front_matter, html, pdf
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.reading import feeds
from llm_engineering.features.reading.feeds import feed_entries, feed_links

SOON = 30.0  # seconds of CPU, ten times what is needed; without their bounds the bombs take minutes


@pytest.fixture(autouse=True)
def _in_time():
    began = time.process_time()
    yield
    assert time.process_time() - began < SOON


def matter(*lines: str) -> str:
    return "---\n" + "\n".join(lines) + "\n---\n# Words\n"


LAUGHS = ["a: &a [x, x, x, x, x, x, x, x, x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))]  # fmt: skip  # noqa: E501
MERGES = ["a: &a {x: 1}", *(f"{b}: &{b} {{<<: [*{a}, *{a}, *{a}, *{a}]}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True))]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (LAUGHS, "YAML alias"),
        (MERGES, "merge key"),
        (["title: &t x", "also: *t"], "YAML alias"),
        (["a: &a [*a]"], "YAML alias"),
        (["a:", "  <<: {b: c}"], "merge key"),
        (["a: " + "[" * 200 + "]" * 200], "nested over"),
        (["a: " + "{b: " * 200 + "}" * 200], "nested over"),
        (["- " * 200 + "x"], "nested over"),
    ],
)
def test_a_bomb_in_front_matter_is_refused(lines, words):
    with pytest.raises(CleaningError, match=words):
        clean_body(matter(*lines), "text/markdown")


@pytest.mark.parametrize(
    "value",
    ["!!int x", "!!timestamp x", "!!float y", "!!bool z", "!!binary ä", "!python/object:os.system {}",
     "0x" + "f" * 9_000,
     ":".join(["59"] * 5_000), "1" * 9_000, "2024-02-30", "0001-01-01T00:00:00+08:00", "99999999999-01-01"],
)  # fmt: skip
def test_values_that_cannot_be_built_are_not_built(value):
    cleaned = clean_body(matter(f"date: {value}", f"created: {value}", f"other: {value}"), "text/markdown")
    assert (cleaned.text, cleaned.title, cleaned.published_at) == ("# Words", "Words", None)


def test_what_looks_like_an_alias_in_ordinary_markdown_is_text():
    for line in ("*emphasis* at the start", "& more", "<< quoted >>", "a & b: *c*"):
        body = f"---\n{line}\n---\nWords"
        assert line in clean_body(body, "text/markdown").text


def test_titles_and_dates_are_read_as_they_are_written():
    def read(*lines):
        cleaned = clean_body(matter(*lines), "text/markdown")
        return cleaned.title, cleaned.published_at and cleaned.published_at.isoformat()

    assert read("title: 007", "date: 2024-01-02") == ("007", "2024-01-02T00:00:00+00:00")
    assert read("title: ~", "date: 2024-1-2 03:04:05 +02:00") == ("Words", "2024-01-02T01:04:05+00:00")
    assert read("title: [a, b]", "published: 2024-01-02t03:04:05Z") == ("Words", "2024-01-02T03:04:05+00:00")
    assert read("Title: 'It is: so'", "date: 2024") == ("It is: so", None)


def test_a_long_text_between_two_rules_is_text():
    body = "---\n" + "key: value\n" * (front_matter.LONGEST // 10) + "---\nWords"
    assert clean_body(body, "text/markdown").text == body


def test_a_megabyte_of_empty_objects_is_read_in_time():
    body = f'<script type="application/ld+json">[{"{}," * 300_000}{{}}]</script><article><p>{"Words. " * 60}</p>'
    assert clean_body(body, "text/html").text.startswith("Words.")


def test_a_page_beyond_the_limit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(html, "LONGEST_PAGE", 1_000)
    with pytest.raises(CleaningError, match="1,001 characters, over the limit of 1,000"):
        clean_body("x" * 1_001, "text/html")


def packed_pdf(stream_filter: str, stream: bytes) -> str:
    """One page whose content is `stream`."""
    plain = written("MARK")
    start, end = plain.index(b"stream\n") + 7, plain.index(b"\nendstream")
    entries = b"<< /Length %d >>" % (end - start)
    data = plain[:start] + stream + plain[end:]
    return base64.b64encode(
        data.replace(entries, b"<< /Filter %s /Length %d >>" % (stream_filter.encode(), len(stream)))
    ).decode()


def zipped(times: int) -> bytes:
    data = b"0" * 200_000_000
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("/FlateDecode", zipped(1)),
        ("[/FlateDecode /FlateDecode]", zipped(2)),
        ("/RunLengthDecode", b"\x810" * 400_000),
        ("[" + "/FlateDecode " * 40 + "]", b"x"),
    ],
    ids=["flate", "flate twice", "run lengths", "forty filters"],
)
def test_a_bomb_in_a_pdf_is_refused_or_gives_nothing(name, stream):
    text = ""
    with suppress(CleaningError):
        text = clean_body(packed_pdf(name, stream), "application/pdf").text
    assert len(text) < 1_000


def test_a_pdf_of_endless_text_is_refused(monkeypatch):
    monkeypatch.setattr(pdf, "MAX_TEXT", 20)
    with pytest.raises(CleaningError, match="over 20 characters"):
        clean_body(base64.b64encode(written("A page of words.", "Another page.")).decode(), "application/pdf")


def test_the_date_of_a_pdf_may_be_one_that_no_calendar_holds():
    data = written("Words.").replace(b"trailer\n<<", b"trailer\n<< /Info << /CreationDate (D:00010101000000+14'00') >>")
    cleaned = clean_body(base64.b64encode(data).decode(), "application/pdf")
    assert (cleaned.text, cleaned.published_at) == ("Words.", None)


def test_a_notebook_of_absurd_numbers_is_refused_or_read():
    cell = {"cell_type": "heading", "level": 10**9, "source": "Words"}
    assert clean_body(json.dumps({"cells": [cell]}), "application/x-ipynb+json").text == "###### Words"
    with pytest.raises(CleaningError, match="JSON is broken"):
        clean_body(f'{{"cells": [], "n": {"1" * 1_000_000}}}', "application/x-ipynb+json")


def feed(root: str = "", inner: str = "") -> bytes:
    item = "<item><link>https://a.example/p/1</link></item>"
    return f"<rss {root}><channel>{inner}{item}</channel></rss>".encode()


def test_a_feed_with_a_hundred_thousand_attributes_is_refused():
    attributes = " ".join(f'a{number}="1"' for number in range(100_000))
    with pytest.raises(SourceError, match="100,000 attributes"):
        feed_entries(feed(attributes), "https://a.example/")


def test_a_feed_nested_a_thousand_deep_is_refused():
    with pytest.raises(SourceError, match=f"nested over {feeds.MAX_NESTING}"):
        feed_entries(feed(inner="<b>" * 1_000 + "</b>" * 1_000), "https://a.example/")


@pytest.mark.parametrize("tag", ["author", "pubDate", "managingEditor", "category", "link", "updated"])
def test_a_word_of_a_megabyte_in_a_feed_is_passed_over_and_the_entries_stay(tag):
    data = feed(inner=f"<item><{tag}>{'a' * 1_000_000}</{tag}></item>")
    assert list(feed_links(data, "https://a.example/")) == ["https://a.example/p/1"]


def test_a_link_that_is_none_ends_no_feed():
    data = feed(inner="<item><link>http://[</link></item><item><link>http://a.example:x/</link></item>")
    assert list(feed_links(data, "https://a.example/")) == ["https://a.example/p/1"]
