"""What cleaning leaves of a body."""

from datetime import datetime
from typing import Literal, NamedTuple

Syntax = Literal["markdown", "code", "text"]


class Cleaned(NamedTuple):
    """`syntax` tells the splitter what it cuts. `title` and `published_at` are what the body itself says."""

    text: str
    syntax: Syntax = "markdown"
    title: str = ""
    published_at: datetime | None = None
