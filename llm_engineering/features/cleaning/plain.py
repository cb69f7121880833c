"""What is text already: Markdown, plain text and code."""

import re

from llm_engineering.domain.text import composed, storable
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.front_matter import front_matter

_FENCE_OR_HEADING = re.compile(r"^(?:(?P<fence>`{3,}|~{3,})|#[ \t])(?P<rest>[^\n]*)", re.MULTILINE)


def clean_code(body: str) -> str:
    """Exactly as it is, but for NUL characters and lone surrogates, which no store can keep."""
    return storable(body.replace("\0", ""))


def clean_text(body: str) -> str:
    """NFC, one kind of line end, no byte order mark."""
    text = clean_code(body).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return composed(text).strip("\n")


def clean_markdown(body: str) -> Cleaned:
    """Without its front matter, which gives title and date; without a title there, the first heading does.

    Raises CleaningError for a front matter that is a bomb."""
    text = clean_code(body).replace("\r\n", "\n")
    matter = front_matter(text)
    text = text[matter.end :]
    title = matter.title or " ".join(_first_heading(text).split())
    return Cleaned(text.removeprefix("\ufeff").strip("\n"), "markdown", title, matter.published_at)


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
