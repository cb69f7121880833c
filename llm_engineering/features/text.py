"""Raw bodies into clean text."""

from datetime import datetime
from typing import Literal, NamedTuple


class Cleaned(NamedTuple):
    """`syntax` tells the splitter what it cuts. `title` and `published_at` are what the body itself says."""

    text: str
    syntax: Literal["markdown", "code", "text"] = "markdown"
    title: str = ""
    published_at: datetime | None = None


def to_markdown(body: str, media_type: str) -> Cleaned:
    raise NotImplementedError
