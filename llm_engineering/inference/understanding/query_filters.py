# ruff: noqa: RUF001
"""Filters in a question's own words: who wrote it, what kind it is, where it stood, when it appeared.

Precision comes first: a filter nobody asked for hides the answer, one that was missed costs a little order. So a name
counts only as a whole, or where the words around it say that a person is meant ("by Page", "does Page say", "Page's").
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import chain
from typing import NamedTuple, TypeVar

from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.inference.understanding.dates import MONTH, find_dates

T = TypeVar("T")

MIN_NAME_SIMILARITY = 88.0  # rapidfuzz ratio of a whole name, of 100
MIN_WORD_SIMILARITY = 80.0  # of one word of a name; "Labone" for "Labonne" is 92, "Marx" for "Mark" is 75
CONTEXT = 80  # characters around a name that say whether a person is meant
MIN_MISSPELT_LENGTH = 5  # letters; shorter words are each other's typos

_WORDS = re.compile(r"[^\W\d_]+(?:[-.][^\W\d_]+)*")
_VERBS_BEFORE_NAME = (  # the verb stands before the name: "was schreibt Ann", "que dit Ann"
    r"schreibt|schrieb|geschrieben|sagt|sagte|gesagt|meint|denkt|empfiehlt|erklärt|écrit|dit|pense|recommande|explique"
)
SAYING = (
    r"(?:say|write|think|recommend|suggest|explain|argue|claim|describe|mention|publish|believe|teach|advise|prefer|"
    r"compare|post|define|discuss)(?:e?s|e?d)?|said|wrote|written|thought|taught|published|discusses"
    rf"|{_VERBS_BEFORE_NAME}"
)
_AFTER_AUTHOR = (
    r"\s*(?:$|[?.,;:!)]|\b(?:about|on|in|since|before|after|from|and|or|that|which|between|during|regarding|last|this|"
    r"say|explain|mention|discuss|describe)\b)"
)
_NOUNS = {
    Kind.ARTICLE: r"articles|essays|blog\s+articles",
    Kind.POST: r"posts",
    Kind.REPOSITORY: r"repositories|repos|codebases?|source\s+code",
}
_NEWNESS = r"recent|latest|newest|older|old"
_DETERMINER = (
    rf"the|my|his|her|their|your|our|these|those|all|any|of|{_NEWNESS}|published|social"
    r"|[^\W\d_]+(?:\s[^\W\d_]+)?['’]s?"
)
_SPEAKS_OF_WRITING = re.compile(
    rf"\b(?:{SAYING}|articles?|posts?|essays?|repos?|repositor(?:y|ies)|code|anything|something|everything|stuff|shared|"
    r"what(?:['’]s|\s+is|\s+are|\s+was))\b",
    re.IGNORECASE,
)
_HOW_TO = re.compile(
    r"\bhow\s+(?:do|does|can|could|to|should|would|might)\b(?!\s+\w+\s+(?:say|write|describe|explain))", re.I
)


FILTERS = {  # name -> the fields of Where it sets
    "author": ("author_id",),
    "kind": ("kind",),
    "source": ("source",),
    "date": ("published_from", "published_to"),
}
Span = tuple[int, int]


class FoundFilter(NamedTuple):
    """One of FILTERS: what it sets, how to speak of its value, and where in the question it was read."""

    name: str
    where: Where
    value: str
    spans: tuple[Span, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


def set_fields(where: Where) -> dict[str, object]:
    """The fields that filter."""
    return {field: value for field, value in where if value is not None}


def find_filters(question: str, facets: Facets, today: date) -> Iterator[FoundFilter]:
    """Author, kind, source and date, in this order, at most one each."""
    dates = find_dates(question, today)
    undated = question[: dates.start] + " " * (dates.end - dates.start) + question[dates.end :] if dates else question
    if authors := find_authors(undated, facets.authors):
        names = ", ".join(facets.authors[one] for one in sorted(authors))
        where = Where(author_id=_one_or_all(sorted(authors)))
        yield FoundFilter("author", where, names, tuple(chain.from_iterable(authors.values())))
    if kinds := find_kinds(undated, facets.sources):
        where = Where(kind=_one_or_all(list(kinds)))
        yield FoundFilter("kind", where, " and ".join(kinds), tuple(chain.from_iterable(kinds.values())))
    if sources := find_sources(undated, facets):
        where = Where(source=_one_or_all(list(sources)))
        yield FoundFilter("source", where, ", ".join(sources), tuple(chain.from_iterable(sources.values())))
    if dates:
        where = Where(published_from=dates.from_, published_to=dates.to)
        yield FoundFilter("date", where, dates.words, ((dates.start, dates.end),))


def _one_or_all(values: Sequence[T]) -> T | tuple[T, ...]:
    return values[0] if len(values) == 1 else tuple(values)


# --- authors ------------------------------------------------------------------------------------------------


def find_authors(question: str, authors: dict[str, str]) -> dict[str, list[Span]]:
    """Ids of the authors who are named, and where; a name two authors share names neither."""
    words = [(match.group(), match.start(), match.end()) for match in _WORDS.finditer(question)]
    found: dict[str, list[Span]] = {}
    taken: set[int] = set()
    for author_id, name in authors.items():
        size = len(_WORDS.findall(name))
        for at in range(len(words) - size + 1) if size > 1 else ():
            if _same_name([word for word, *_ in words[at : at + size]], _WORDS.findall(name)):
                found.setdefault(author_id, []).append((words[at][1], words[at + size - 1][2]))
                taken.update(range(at, at + size))
    parts = _distinctive_words(authors)
    for at, (word, start, end) in enumerate(words):
        if at in taken or not (author_id := _author_by_word(word, parts)):
            continue
        if _names_a_person(question, word, start, end):
            found.setdefault(author_id, []).append((start, end))
    return found


def closest_author(name: str, authors: dict[str, str]) -> str | None:
    """The one author who may be meant by a name that a language model read out of a question."""
    words = _WORDS.findall(name)
    exact = [one for one, known in authors.items() if _same_name(words, _WORDS.findall(known))]
    if len(exact) == 1:
        return exact[0]
    return _author_by_word(words[-1], _distinctive_words(authors)) if words and not exact else None


def _same_name(words: list[str], known: list[str]) -> bool:
    from rapidfuzz import fuzz

    if len(words) != len(known):
        return False
    pairs = [(_fold(a), _fold(b)) for a, b in zip(words, known, strict=True)]
    if all(a == b for a, b in pairs):
        return True
    if not all(word[0].isupper() for word in words):
        return False
    alike = all(
        a == b or (len(b) >= MIN_MISSPELT_LENGTH - 1 and fuzz.ratio(a, b) >= MIN_WORD_SIMILARITY) for a, b in pairs
    )
    return alike and fuzz.ratio(*(" ".join(side) for side in zip(*pairs, strict=True))) >= MIN_NAME_SIMILARITY


def _distinctive_words(authors: dict[str, str]) -> dict[str, str]:
    """word of a name -> id, for words that only one author has; initials are left out."""
    owners: dict[str, set[str]] = {}
    for author_id, name in authors.items():
        for word in _WORDS.findall(name):
            if len(word) > 1:
                owners.setdefault(_fold(word), set()).add(author_id)
    return {word: next(iter(ids)) for word, ids in owners.items() if len(ids) == 1}


def _author_by_word(word: str, parts: dict[str, str]) -> str | None:
    from rapidfuzz import fuzz

    folded = _fold(word)
    if folded in parts:
        return parts[folded]
    if len(folded) < MIN_MISSPELT_LENGTH or not word[0].isupper():
        return None
    close = {
        author_id
        for known, author_id in parts.items()
        if len(known) >= MIN_MISSPELT_LENGTH
        and known[0] == folded[0]
        and fuzz.ratio(folded, known) >= MIN_WORD_SIMILARITY
    }
    return close.pop() if len(close) == 1 else None


def _names_a_person(question: str, word: str, start: int, end: int) -> bool:
    """The words around say that `word` is someone who writes."""
    before, after = question[max(0, start - CONTEXT) : start], question[end : end + CONTEXT]
    if re.match(rf"{MONTH}$", word, re.IGNORECASE) and not re.match(r"['’]", after):
        return False
    saying = re.match(rf"\s+(?:(?:has|have|had|ever|also|once|really|first)\s+)*(?:{SAYING})\b", after, re.IGNORECASE)
    asked = re.search(
        r"\b(?:does|did|do|has|had|would|what|how|why|where|when|which)\s+(?:[^\W\d_]+\s+)?$", before, re.IGNORECASE
    )
    if saying and (word[0].isupper() or asked):
        return True
    if word[0].isupper() and re.search(rf"\b(?:{_VERBS_BEFORE_NAME}|was\s+hat|wie\s+hat)\s+$", before, re.IGNORECASE):
        return True
    if re.search(r"\baccording\s+to\s+(?:[^\W\d_]+\s+)?$", before, re.IGNORECASE):
        return True
    things = rf"(?:{SAYING}|articles?|posts?|repos?|repositor(?:y|ies)|code|anything|something)"
    by = re.search(rf"\b(?:by|{things}\s+(?:by|from|of))\s+(?:[^\W\d_]+\s+)?$", before, re.IGNORECASE)
    if by and re.match(_AFTER_AUTHOR, after, re.IGNORECASE) and (word[0].isupper() or " by " in f" {by.group()}"):
        return True
    if re.match(r"['’](?:s\b)?", after) and word[0].isupper():
        return bool(before.strip()) or bool(re.match(r"['’]s?\s+\w", after))
    return False


def _fold(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c)).strip(".")


# --- kinds and sources --------------------------------------------------------------------------------------


def find_kinds(question: str, sources: Iterable[str] = ()) -> dict[Kind, list[Span]]:
    """Kinds the question asks to look in, and where it does: "in his posts", "which articles …", "articles by Ann".

    `sources` are those of the index; their names may stand before what is looked in ("in her linkedin posts").
    """
    names = "|".join(map(_name_pattern, sources)) or "(?!)"
    nouns_of = _NOUNS | {Kind.REPOSITORY: rf"{_NOUNS[Kind.REPOSITORY]}|(?:{names})\s+code"}
    if spans := _scope_spans(r"blog\s+posts", question, names):
        return {Kind.ARTICLE: spans, Kind.POST: []}
    found = {kind: spans for kind, nouns in nouns_of.items() if (spans := _scope_spans(nouns, question, names))}
    in_code = r"\bin\s+(?:his|her|their|your|my|[^\W\d_]+(?:\s[^\W\d_]+)?['’]s?)\s+code\b"
    if Kind.REPOSITORY not in found and (match := re.search(in_code, question, re.IGNORECASE)):
        found[Kind.REPOSITORY] = [match.span()]
    return found


def _scope_spans(nouns: str, question: str, source_names: str) -> list[Span]:
    modifier = rf"(?:\s+(?:{_DETERMINER}|{source_names}))"
    places = (
        rf"\b(?:in|from|across|among|search|through|only){modifier}{{1,4}}\s+(?:{nouns})\b",
        rf"^\W*(?:which|what|show(?:\s+me)?|find(?:\s+me)?|list|any|give\s+me|are\s+there(?:\s+any)?){modifier}{{0,3}}\s+(?:{nouns})\b",
        rf"\b(?:{nouns})\s+(?:(?:written|published)\s+)?by\s+",
        rf"(?<=[^\W\d_])['’]s?\s+(?:(?:{_NEWNESS}|{source_names})\s+)?(?:{nouns})\b",
        rf"\b(?:in|from|search|only)\s+(?:{nouns})\s+(?:by|from|published|written|only)\b",
        rf"\b(?:{nouns})\s+only\b",
    )
    return [match.span() for place in places if (match := re.search(place, question, re.IGNORECASE))]


def find_sources(question: str, facets: Facets) -> dict[str, list[Span]]:
    """Sources of the index that the question names as the place where something was written, and where it does."""
    found: dict[str, list[Span]] = {}
    speaks, how_to = _SPEAKS_OF_WRITING.search(question), _HOW_TO.search(question)
    for source in sorted(facets.sources):
        name = _name_pattern(source)
        place = rf"\b(?:on|from|in|via)(?:\s+(?:the|his|her|their|my|your))?\s+{name}\b"
        named = rf"{place}(?!\s+(?:actions?|copilot|pages|api|app|token)\b)"
        for match in re.finditer(named, question, re.IGNORECASE):
            if speaks and speaks.end() <= match.start() and not (how_to and how_to.end() <= match.start()):
                found.setdefault(source, []).append(match.span())
        things = rf"\b{name}\s+(?:articles|posts|repos|repositories)\b"
        if (match := re.search(things, question, re.IGNORECASE)) and not how_to:
            found.setdefault(source, []).append(match.span())
    return found


def _name_pattern(source: str) -> str:
    return r"[\s_-]?".join(map(re.escape, re.split(r"[_-]", source)))
