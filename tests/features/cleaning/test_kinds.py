"""Each media type gets the cleaning that suits it."""

from datetime import UTC, datetime

import pytest

from llm_engineering.features.cleaning.clean import clean_body, clean_html
from llm_engineering.features.cleaning.cleaned import Cleaned


def test_front_matter_gives_title_and_date_and_is_no_text():
    body = "---\r\ntitle: 'A: note'\r\ndate: 2024-01-02\r\ntags: [x]\r\n---\r\n# Heading\r\n\r\nText.\r\n"
    assert clean_body(body, "text/markdown") == Cleaned(
        "# Heading\n\nText.", "markdown", "A: note", datetime(2024, 1, 2, tzinfo=UTC)
    )


def test_dashes_that_are_no_front_matter_stay():
    body = "---\nnot: [closed\n---\ntext"
    assert clean_body(body, "text/markdown").text == body
    assert clean_body("---\njust a line\n---\ntext", "text/markdown").text.startswith("---\njust a line")


def test_markdown_without_front_matter_is_titled_by_its_heading_and_not_by_a_comment_in_code():
    body = "```sh\n# not this\n```\n\n# This one #\n"
    assert clean_body(body, "text/markdown").title == "This one"


@pytest.mark.parametrize("day", ["2024-01-02T03:04:05Z", "2024-01-02 03:04:05", "'2024-01-02T03:04:05+00:00'"])
def test_a_date_with_a_time_is_read(day):
    cleaned = clean_body(f"---\ndate: {day}\n---\nx", "text/markdown")
    assert cleaned.published_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "media_type",
    ["text/x-python", "application/json", "application/yaml", "text/xml", "application/ld+json", "text/css"],
)
def test_code_is_byte_exact(media_type):
    code = "\n\n\tx = 'e\u0301\u00ad'  \r\n\n  y\n\n"
    assert clean_body(code, media_type) == Cleaned(code, "code")


def test_plain_text_is_normalised_and_nothing_else():
    assert clean_body("\ufeffcafe\u0301\r\n  * not a list\r\n", "text/plain") == Cleaned("café\n  * not a list", "text")


def test_what_no_store_can_keep_is_replaced_everywhere():
    for media_type in ("text/html", "text/markdown", "text/plain", "text/x-python"):
        text = clean_body("a sentence with a\0b and \ud800 in it", media_type).text
        assert text == "a sentence with ab and \ufffd in it"


def test_nothing_is_left_of_nothing():
    for media_type in ("text/html", "text/markdown", "text/plain", "text/x-python"):
        assert clean_body("", media_type).text == ""
    assert clean_body("  <!-- --> ", "text/html").text == ""


def test_what_a_site_puts_around_its_articles_can_be_taken_away():
    html = (
        "<html><body><article><p>Words of the article, long enough to be one.</p><p class='x'>Subscribe</p></article>"
    )
    assert "Subscribe" not in clean_html(html, "text/html", without=("//p[@class='x']",)).text
    assert clean_html("x = 1", "text/x-python", without=("//p",)) == Cleaned("x = 1", "code")
