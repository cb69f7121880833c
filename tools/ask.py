"""`poe ask "QUESTION"`: an answer with its sources, or with --passages only the passages that answer it.

Exit code 0: answered, or passages shown. 1: nothing is indexed or found, a store cannot be read, or the language model
is unavailable. 2: a setting, a config or the command line is wrong.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.answers import Answer, Delta, Question
from llm_engineering.domain.chunks import Hit, Where
from llm_engineering.domain.citation_format import cite
from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import BadQuestion, ConfigError, LLMTwinError
from llm_engineering.domain.text import printable
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.retrieval.retrieve import open_index, retrieve
from tools.terminal import plain, say

if TYPE_CHECKING:
    from rich.console import Console

    from llm_engineering.bootstrap import Platform
    from llm_engineering.domain.ports import VectorReader


@click.command(name="ask")
@click.argument("question")
@click.option("--author", help="Only what this author wrote.")
@click.option(
    "--limit", type=click.IntRange(1, 50), help="How many passages.  [default: as configured; 5 with --passages]"
)
@click.option("--passages", is_flag=True, help="Show the passages only; no answer is made of them.")
@click.option("--config", type=click.Path(path_type=Path), help="Default: configs/ask.yaml")
def main(question: str, author: str | None, limit: int | None, passages: bool, config: Path | None) -> None:
    """Answer QUESTION from what is indexed, with numbered sources."""
    from rich.console import Console

    from llm_engineering.bootstrap import open_platform
    from llm_engineering.operate.configs import load_ask_config

    console = Console(highlight=False)
    try:
        with open_platform() as platform:
            if passages:
                print_passages(search(question, platform, author=author, limit=limit or 5), console)
                return
            answer = print_answer(
                question, platform, console, config=load_ask_config(config), author=author, limit=limit
            )
    except LLMTwinError as error:
        say(error, err=True)
        sys.exit(2 if isinstance(error, ConfigError | BadQuestion) else 1)
    sys.exit(0 if answer.answered else 1)


def print_answer(
    question: str,
    platform: "Platform",
    console: "Console",
    *,
    config: AskConfig,
    author: str | None = None,
    limit: int | None = None,
) -> Answer:
    """The answer, printed as it is written, and then its sources. Raises as `search`, and ModelUnavailable."""
    from llm_engineering.bootstrap import build_reranker
    from llm_engineering.inference.answer import AnswerContext, answer_stream
    from llm_engineering.inference.understanding.understand import checked_question

    checked_question(question, config.understand)
    reader = open_index(platform.vectors, embedder=platform.embedder)
    try:
        where = _where(author, reader)
        context = AnswerContext(
            embedder=platform.embedder,
            reader=reader,
            model=platform.language_model,
            reranker=build_reranker(platform.settings, config.retrieval, platform.embedder),
            config=config,
            trace=platform.tracer.start("ask"),
        )
        for step in answer_stream(Question(text=question, where=where, limit=limit), context):
            if isinstance(step, Delta):
                console.out(printable(step.text), end="", highlight=False)
    finally:
        reader.close()
    console.out("")
    assert isinstance(step, Answer), "the last step"
    print_sources(step, console)
    return step


def print_sources(answer: Answer, console: "Console") -> None:
    """The cited passages by their numbers, then what else a reader should know about the answer."""

    cited = {citation.passage for citation in answer.citations}
    if cited:
        console.print("\n[bold]Sources[/]")
    for passage in (one for one in answer.passages if one.number in cited):
        chunk = passage.chunk
        date = f", {chunk.published_at:%Y-%m-%d}" if chunk.published_at else ""
        about = f"{plain(chunk.title or chunk.link)}  [dim]{plain(chunk.author_name)}{date}[/]"
        console.print(f"{plain(cite(passage.number))} {about}", soft_wrap=True)
        console.print(f"    [cyan]{plain(chunk.url)}[/]", soft_wrap=True)
    notes = list(answer.understood.notes)
    if answer.removed_citations:
        notes.append(f"{answer.removed_citations} citations could not be verified and were removed")
    if answer.suspicious_passages:
        numbers = ", ".join(map(str, answer.suspicious_passages))
        notes.append(f"text that looks like instructions was neutralised in passage {numbers}")
    for note in notes:
        console.print(f"[dim]({plain(note)})[/]", soft_wrap=True)


def search(question: str, platform: "Platform", *, author: str | None = None, limit: int = 5) -> list[Hit]:
    """Best first, never empty.

    Raises ConfigError when there is no question or no such author, LLMTwinError that says what to run when nothing
    is indexed, EmbeddingMismatch when another embedder built the index.
    """
    if not question.strip():
        raise ConfigError('ask something: poe ask "How do I …?"')
    reader = open_index(platform.vectors, embedder=platform.embedder)
    try:
        where = _where(author, reader)
        hits = retrieve(question, embedder=platform.embedder, reader=reader, limit=limit, where=where)
    finally:
        reader.close()
    return hits


def _where(author: str | None, reader: "VectorReader") -> Where | None:
    """Raises ConfigError when the index holds nothing by this author, LLMTwinError when it holds nothing at all."""
    if not reader.count():
        raise LLMTwinError("the index is empty: run `poe run-etl`, then `poe run-features`")
    if not author:
        return None
    where = Where(author_id=Author(name=author).id)
    if not reader.count(where):
        raise ConfigError(f"nothing by {author!r} is indexed; see `poe crawl-status` for the authors there are")
    return where


def print_passages(hits: list[Hit], console: "Console") -> None:
    """Each passage under its title, headings and link. The score ranks the passages of one answer, nothing more."""
    from rich.padding import Padding
    from rich.text import Text

    for rank, hit in enumerate(hits, start=1):
        chunk = hit.chunk
        headings = [heading for heading in chunk.headings if heading != chunk.title]
        place = " > ".join((chunk.title or chunk.link, *headings))
        console.print(f"[bold]{rank}. {plain(place)}[/]  [dim]{hit.score:.3f}[/]", soft_wrap=True)
        console.print(f"   [dim]{plain(chunk.author_name)}[/]  [cyan]{plain(chunk.url)}[/]", soft_wrap=True)
        console.print(Padding(Text(printable(chunk.text.strip())), (0, 0, 1, 3)))


if __name__ == "__main__":
    main()
