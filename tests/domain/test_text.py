"""Text in its one spelling."""

from unicodedata import normalize

import pytest

from llm_engineering.domain.text import MAX_MARKS, composed

ACUTE, LOW = "\u0301", "\u0316"  # above and below a letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "cafe" + ACUTE,
        "e" + ACUTE * MAX_MARKS,
        "\u1100\u1161\u11a8",
        "漢字" * 40,
        "д" * 99 + ACUTE,
        "a" + ACUTE + LOW + "b",
        "x" + LOW * 10 + ACUTE * 10,
        "\u0344" * 10,
    ],
)
def test_ordinary_text_is_nfc(text):
    assert composed(text) == normalize("NFC", text)


def test_marks_beyond_all_reason_stay_and_the_text_around_them_is_nfc():
    many = (ACUTE + LOW) * 50_000
    text = composed(f"cafe{ACUTE} x{many} cafe{ACUTE}{many}")
    assert text.startswith("café x")
    assert " café" in text
    assert sum(map(text.count, (ACUTE, LOW))) >= 2 * (len(many) - MAX_MARKS)
