"""The real articles beside the checkout, where they are there."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from llm_engineering.domain.documents import Author, Document, Kind

ARTICLES = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "articles.json"
ABSENT = "needs ../shared/corpus/articles.json, which is not here"


def articles(path: Path = ARTICLES) -> Iterator[Document]:
    """As Markdown documents. Each article's content is a mapping of its parts, some of them written as Python."""
    for article in json.loads(path.read_text(encoding="utf-8")):
        link = article["link"]
        yield Document(
            link=link,
            url=link,
            crawled_from=link,
            source="web_article",
            kind=Kind.ARTICLE,
            author=Author(name=article["author_full_name"]),
            media_type="text/markdown",
            body=_text(article["content"]),
        )


def _text(content: str | dict[str, str | None]) -> str:
    try:
        parts = ast.literal_eval(content) if isinstance(content, str) else content
    except (ValueError, SyntaxError):
        return str(content)
    return "\n\n".join(part for name, part in parts.items() if part and name != "language")
