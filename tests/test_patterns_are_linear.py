"""Every regular expression of the tree takes time in step with its input."""

import re
from datetime import date

import pytest
import regular_expressions
from linear_growth import Hostile, hostile_inputs, superlinear
from regular_expressions import FoundPattern, compiled_patterns, found_patterns, hostile_to

from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.features.reading import walls
from llm_engineering.inference.evaluation.golden import _label_pattern
from llm_engineering.inference.understanding.query_filters import find_filters
from llm_engineering.infrastructure.language_models.openai_errors import unsupported_option


def _every_wall() -> None:
    words = [value for name, value in vars(walls).items() if name.startswith("_") and isinstance(value, str)]
    for pattern in (*words, *(markup for _, markup in walls._CHALLENGES), rf"^\W*(?:{walls._BOT_TITLES})"):
        walls._first_match(pattern, "")


def _every_filter() -> None:
    facets = Facets(authors={"a": "Ann Page"}, sources={"web_article": 1, "my-blog": 1})
    list(find_filters("what is in posts on web article from ann", facets, date(2024, 1, 1)))


# Patterns that are put together while the program runs: who asks for them, and a call that does.
PUT_TOGETHER = {
    "llm_engineering.domain.personal_data._name": lambda: [
        DataSubject(name=name).is_in("x") for name in ("Ann", "Ann Mary Page")
    ],
    "llm_engineering.features.reading.walls._first_match": _every_wall,
    "llm_engineering.inference.evaluation.golden._label_pattern": lambda: _label_pattern({"one two three", "a b c d"}),
    "llm_engineering.inference.understanding.query_filters._scope_spans": _every_filter,
    "llm_engineering.inference.understanding.query_filters.find_sources": _every_filter,
    "llm_engineering.infrastructure.language_models.openai_errors.unsupported_option": lambda: unsupported_option(
        "unknown option", dict.fromkeys(("stream_options", "max_tokens", "temperature"))
    ),
}


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def slow_input(one: FoundPattern):
    return superlinear(one, hostile_to(one.pattern), convert=encoded if isinstance(one.pattern.pattern, bytes) else str)


@pytest.mark.slow
def test_no_pattern_takes_the_square_of_its_input():
    """Found by itself: what stands in the globals of a module, and what is written where it is used."""
    found, unread = found_patterns()
    assert {f"{one.module}.{one.function}" for one in unread} == set(PUT_TOGETHER), (
        "a pattern that only exists at run time needs a call in PUT_TOGETHER that makes it"
    )
    slow = {one.where: str(seen) for one in found if (seen := slow_input(one))}
    assert slow == {}


@pytest.mark.slow
@pytest.mark.parametrize("place", PUT_TOGETHER)
def test_no_pattern_that_is_put_together_takes_the_square_of_its_input(place):
    re.purge()
    with compiled_patterns() as seen:
        PUT_TOGETHER[place]()
    made = {pattern for by, pattern in seen if by == place}
    assert made, "the call did not come by there"
    slow = {one.pattern: str(found) for one in made if (found := slow_input(FoundPattern(place, one)))}
    assert slow == {}


QUADRATIC = [
    r"\s+$",
    r"<a[^>]*href",
    r"^#[ \t]+(.+?)[ \t]*#*[ \t]*$",  # the square of its blanks at least
    r"^(?P<role>\s*(?:system|human))\s*:",
    r"\[([^\]\n]*)\]\([^)\n]*\)",
    r"^(`{3,}|~{3,}).*?^\1",
    r"(?:\s+(?:old|prior))+(?:\s+(?:and|prior))*\s+rules\b",
    r"instructions?\s*(?:for\s+ai)?\s*:",
    r"\b[a-z][a-z0-9+.-]*://",
    r"(?:[\s,]+(?:what|and))+(?=\W*$)",
]
EXPONENTIAL = [r"(?:\w+\s?)*:", r"rules(?:\s+(?:\w+ing|existing))*\s+now\b", r"(a|aa)+$"]
LINEAR = [
    r"(?<!\s)\s+$",
    r"\w+",
    r"<[^<>]*>",
    r"\[([^\]\n]{0,200})\]",
    r"(?<![\w-])a[\w-]{8,}\.",
    r"(?:one|two|three)\s+\w+\s*:",
    r"\A(?:[ \t]*\n)+",
]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", QUADRATIC + EXPONENTIAL)
def test_a_planted_pattern_that_explodes_is_caught(pattern):
    assert slow_input(FoundPattern("planted", re.compile(pattern, re.MULTILINE | re.DOTALL)))


@pytest.mark.parametrize("pattern", LINEAR)
def test_a_linear_pattern_passes(pattern):
    assert not slow_input(FoundPattern("planted", re.compile(pattern)))


def test_a_square_that_is_no_pattern_is_caught_too():
    def square(text):
        return [text[at:].count("x") for at in range(0, len(text), 8)]

    assert superlinear(square, [Hostile("a")], screen=65_536)
    assert not superlinear(lambda text: text.count("x"), hostile_inputs("ab"), screen=65_536)


def test_patterns_are_found_wherever_they_stand(monkeypatch, tmp_path):
    module = tmp_path / "planted_patterns.py"
    module.write_text(
        "import re\n_PARTS = {'a': (re.compile('in-a-table'),)}\nMARK = 'x'\n"
        "class One:\n    pattern = re.compile('in-a-class')\n"
        "def used(text, given):\n    part = rf'{MARK}y'\n    re.sub(rf'{part}z', '', text)\n"
        "    re.match('at-once', text)\n    return re.search(given, text)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import planted_patterns  # ty: ignore[import-not-found]

    planted_patterns.One.__module__ = "tools.planted"
    monkeypatch.setattr(regular_expressions, "modules", lambda: (planted_patterns,))
    found, unread = found_patterns()
    assert {one.pattern.pattern for one in found} == {"in-a-table", "in-a-class", "xyz", "at-once"}
    assert [one.anchored for one in found if one.pattern.pattern == "at-once"] == [True]
    assert [(one.function, one.line) for one in unread] == [("used", 10)]
