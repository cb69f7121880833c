"""Dates as people write them in questions, as half-open spans of days (UTC)."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

_MONTHS = (
    "january february march april may june july august september october november december".split()  # noqa: SIM905
)
MONTH = rf"(?:{'|'.join(_MONTHS)}|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?"
_YEAR = r"(?:19[89]\d|20\d\d)"
_DATE = (
    rf"(?:{_YEAR}-\d{{2}}-\d{{2}}|{_YEAR}-\d{{2}}(?!\d)|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{MONTH},?\s+{_YEAR}"
    rf"|{MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+{_YEAR}|{MONTH}(?:\s+of)?,?\s+{_YEAR}|Q[1-4]\s+(?:of\s+)?{_YEAR}"
    rf"|{MONTH}(?=\s*(?:$|[?.,;!)]|and\b|about\b|on\b|to\b|until\b))|{_YEAR}|last\s+(?:year|month|week)|yesterday|today)"
)
_NOT_A_QUANTITY = (  # "in 2000 words" is no year
    r"(?![\d.,]*\d|\s*(?:%|k\b|words?|tokens?|chars?|characters?|chunks?|lines?|rows?|steps?|samples?|examples?|documents?|"
    r"pages?|pixels?|dollars?|euros?|hours?|minutes?|seconds?|ms|mb|gb|kb|bytes?|people|users?|items?|dimensions?|vectors?)\b)"
)
_SPAN = re.compile(
    rf"\b(?:(?P<between>between|from)\s+(?P<a>{_DATE}){_NOT_A_QUANTITY}\s+(?:and|to|until|till|through)\s+(?P<b>{_DATE}){_NOT_A_QUANTITY}"
    rf"|(?P<word>since|after|before|until|till|through|prior\s+to|up\s+to|by\s+the\s+end\s+of|starting\s+in|as\s+of|in|on|during|from)"
    rf"\s+(?:the\s+(?:year|month)\s+(?:of\s+)?)?(?P<date>{_DATE}){_NOT_A_QUANTITY}"
    rf"|(?:in|within|over|during|from)?\s*the\s+(?:last|past)\s+(?:(?P<number>\d{{1,3}}|few|two|three|four|five|six|ten|twelve)\s*)?(?P<unit>day|week|month|year)s?"
    rf"|(?P<alone>last\s+(?:year|month|week)|this\s+(?:year|month|week)|yesterday|today|past\s+(?:year|month|week)))\b",
    re.IGNORECASE,
)
_NUMBERS = {"few": 3, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "twelve": 12}
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


class Dates(NamedTuple):
    """`from_` is inclusive, `to` exclusive; `words` is what was read, `[start:end]` of the question."""

    from_: datetime | None
    to: datetime | None
    words: str
    start: int
    end: int


def find_dates(question: str, today: date) -> Dates | None:
    """The first date expression there is."""
    for match in _SPAN.finditer(question):
        try:
            found = _parse(match, today)
        except ValueError:  # 2024-13-40 is no day
            continue
        if found and found != (None, None):
            from_, to = found
            if from_ and to and from_ >= to:
                continue
            return Dates(_midnight(from_), _midnight(to), match.group().strip(), match.start(), match.end())
    return None


def _parse(match: re.Match[str], today: date) -> tuple[date | None, date | None] | None:
    if match["between"]:
        return _span(match["a"], today)[0], _span(match["b"], today)[1]
    if match["unit"]:
        number = match["number"] or "1"
        days = _DAYS[match["unit"].lower()] * (int(number) if number.isdigit() else _NUMBERS[number.lower()])
        return today - timedelta(days=days), None
    if match["alone"]:
        return _span(match["alone"], today)
    word = " ".join(match["word"].lower().split())
    if match["date"].lower() == "may" and match["date"] != "May":
        return None  # "since may" is as likely a verb
    start, end = _span(match["date"], today)
    if word in ("since", "starting in", "as of"):
        return start, None
    if word == "after":
        return end, None
    if word in ("before", "prior to"):
        return None, start
    if word in ("until", "till", "through", "up to", "by the end of"):
        return None, end
    return start, end


def _span(words: str, today: date) -> tuple[date, date]:
    """The first day, and the first day after. Raises ValueError for a day that does not exist."""
    words = " ".join(words.lower().replace(",", " ").replace(".", "").split())
    if relative := _relative_span(words, today):
        return relative
    if iso := re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", words):
        year, month, day = int(iso[1]), int(iso[2]), iso[3]
        return _day(date(year, month, int(day))) if day else _month(year, month)
    if quarter := re.fullmatch(r"q([1-4]) (?:of )?(\d{4})", words):
        first = 3 * int(quarter[1]) - 2
        return date(int(quarter[2]), first, 1), _month(int(quarter[2]), first + 2)[1]
    years = re.findall(r"\b\d{4}\b", words)
    name = re.search(r"[a-z]{3,}", re.sub(r"(?<!\d)\d+(?:st|nd|rd|th)|\bof\b", "", words))
    if not name:
        return date(int(years[0]), 1, 1), date(int(years[0]) + 1, 1, 1)
    month = next(number for number, month in enumerate(_MONTHS, start=1) if month.startswith(name.group()[:3]))
    if not years:  # the last one there was
        return _month(today.year if month <= today.month else today.year - 1, month)
    day = re.search(r"\b(\d{1,2})(?:st|nd|rd|th)?\b", words.replace(years[0], ""))
    return _day(date(int(years[0]), month, int(day[1]))) if day else _month(int(years[0]), month)


def _relative_span(words: str, today: date) -> tuple[date, date] | None:
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    match words:
        case "today":
            return _day(today)
        case "yesterday":
            return _day(today - timedelta(days=1))
        case "this week":
            return monday, monday + timedelta(days=7)
        case "last week" | "past week":
            return monday - timedelta(days=7), monday if words == "last week" else today + timedelta(days=1)
        case "this month":
            return _month(today.year, today.month)
        case "last month":
            return (first - timedelta(days=1)).replace(day=1), first
        case "past month":
            return today - timedelta(days=30), today + timedelta(days=1)
        case "this year":
            return date(today.year, 1, 1), date(today.year + 1, 1, 1)
        case "last year":
            return date(today.year - 1, 1, 1), date(today.year, 1, 1)
        case "past year":
            return today - timedelta(days=365), today + timedelta(days=1)
    return None


def _day(day: date) -> tuple[date, date]:
    return day, day + timedelta(days=1)


def _month(year: int, month: int) -> tuple[date, date]:
    return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)


def _midnight(day: date | None) -> datetime | None:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None
