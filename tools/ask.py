"""`poe ask "QUESTION"`: the passages that answer it, with their links.

Exit code 0: passages shown. 1: nothing is indexed or found, or a store cannot be read. 2: a setting or the command
line is wrong.
"""

import sys
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.chunks import Hit, Where
from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.inference.retrieve import open_index, retrieve

if TYPE_CHECKING:
    from rich.console import Console

    from llm_engineering.bootstrap import Platform


@click.command(name="ask")
@click.argument("question")
@click.option("--author", help="Only what this author wrote.")
@click.option("--limit", type=click.IntRange(1, 100), default=5, show_default=True, help="How many passages.")
def main(question: str, author: str | None, limit: int) -> None:
    """Show the passages that answer QUESTION best."""
    from rich.console import Console

    from llm_engineering.bootstrap import open_platform

    try:
        with open_platform() as platform:
            show(ask(question, platform, author=author, limit=limit), Console(highlight=False))
    except LLMTwinError as error:
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def ask(question: str, platform: "Platform", *, author: str | None = None, limit: int = 5) -> list[Hit]:
    """Best first, never empty.

    Raises ConfigError when there is no question or no such author, LLMTwinError that says what to run when nothing
    is indexed, EmbeddingMismatch when another embedder built the index.
    """
    if not question.strip():
        raise ConfigError('ask something: poe ask "How do I …?"')
    where = Where(author_id=Author(name=author).id) if author else None
    reader = open_index(platform.vectors, embedder=platform.embedder)
    try:
        hits = retrieve(question, embedder=platform.embedder, reader=reader, limit=limit, where=where)
        if not hits and where and reader.count():
            raise ConfigError(f"nothing by {author!r} is indexed; see `poe crawl-status` for the authors there are")
    finally:
        reader.close()
    if not hits:
        raise LLMTwinError("the index is empty: run `poe run-etl`, then `poe run-features`")
    return hits


def show(hits: list[Hit], console: "Console") -> None:
    """Each passage under its title, headings and link. The score ranks the passages of one answer, nothing more."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.text import Text

    for rank, hit in enumerate(hits, start=1):
        chunk = hit.chunk
        headings = [heading for heading in chunk.headings if heading != chunk.title]
        place = " > ".join((chunk.title or chunk.link, *headings))
        console.print(f"[bold]{rank}. {escape(place)}[/]  [dim]{hit.score:.3f}[/]", soft_wrap=True)
        console.print(f"   [dim]{escape(chunk.author_name)}[/]  [cyan]{escape(chunk.url)}[/]", soft_wrap=True)
        console.print(Padding(Text(chunk.text.strip()), (0, 0, 1, 3)))


if __name__ == "__main__":
    main()
