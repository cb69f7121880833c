"""What is text already: Markdown, plain text and code."""

import re
import unicodedata
from datetime import UTC, date, datetime

from llm_engineering.domain.text import storable
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.page import parse_date

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:^|\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FENCE_OR_HEADING = re.compile(r"^(?:(?P<fence>`{3,}|~{3,})|#[ \t])(?P<rest>[^\n]*)", re.MULTILINE)


def clean_code(body: str) -> str:
    """Exactly as it is, but for NUL characters and lone surrogates, which no store can keep."""
    return storable(body.replace("\0", ""))


def clean_text(body: str) -> str:
    """NFC, one kind of line end, no byte order mark."""
    text = clean_code(body).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).strip("\n")


def clean_markdown(body: str) -> Cleaned:
    """Without its front matter, which gives title and date; without a title there, the first heading does."""
    text = clean_code(body).replace("\r\n", "\n")
    matter: dict[str, object] = {}
    if found := _FRONT_MATTER.match(text):
        matter = _front_matter(found.group(1))
        if matter:
            text = text[found.end() :]
    title = matter.get("title")
    if not isinstance(title, (str, int, float)) or not str(title).strip():
        title = _first_heading(text)
    published = next(
        (d for key in ("date", "published", "published_at", "created") if (d := _date(matter.get(key)))), None
    )
    return Cleaned(text.removeprefix("\ufeff").strip("\n"), "markdown", " ".join(str(title).split()), published)


def _front_matter(text: str) -> dict[str, object]:
    """Empty when it is not a YAML mapping: then the dashes were two rules, and the text stays."""
    import yaml

    try:
        matter = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return {str(key).lower(): value for key, value in matter.items()} if isinstance(matter, dict) else {}


def _date(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return parse_date(value)


def _first_heading(text: str) -> str:
    """The first title of level one; in fenced code a # is a comment."""
    fence = ""
    for line in _FENCE_OR_HEADING.finditer(text):
        if mark := line["fence"]:
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence and (title := line["rest"].rstrip(" \t").rstrip("#").strip()):
            return title
    return ""
