"""What the crawlers found, as the warehouse keeps it."""

from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from pydantic import Field, JsonValue

from llm_engineering.domain.ids import content_hash, stable_id
from llm_engineering.domain.noun import Noun


class Kind(StrEnum):
    ARTICLE = "article"
    POST = "post"
    REPOSITORY = "repository"


class Author(Noun):
    name: str = Field(min_length=1)

    @property
    def id(self) -> str:
        return stable_id("author", " ".join(self.name.split()).casefold())


class WarehouseRef(Noun):
    """Which warehouse: its own id, made when it was, and where it is."""

    id: str
    place: str

    def __str__(self) -> str:
        return f"{self.place} ({self.id})"


class Document(Noun):
    """One page, post or file as it was found. Nothing is lost here; cleaning comes later.

    `link` is the canonical link and decides the identity; `url` opens the document. `body` is the raw text, or
    base64 when `encoding` says so (a PDF). `crawled_from` is the canonical link that gave this document: itself
    for a page, the repository or the folder for a file.
    """

    link: str
    url: str
    crawled_from: str
    source: str
    kind: Kind
    author: Author
    title: str = ""
    published_at: datetime | None = None
    media_type: str = "text/html"
    encoding: str = "text"  # or "base64"
    body: str
    meta: dict[str, JsonValue] = {}
    # set by the warehouse
    revision: Annotated[int, Field(ge=1, le=2**53, strict=True)] = 1
    updated_at: datetime | None = None

    @property
    def id(self) -> str:
        return stable_id("document", self.link)

    @cached_property
    def content_hash(self) -> str:
        """Of what the author wrote. What surrounds it (`url`, `meta`: a commit, a fetch time) makes no revision."""
        published = self.published_at.isoformat() if self.published_at else ""
        return content_hash(
            self.author.id, self.source, self.kind, self.title, published, self.media_type, self.encoding, self.body
        )
