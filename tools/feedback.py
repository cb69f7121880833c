"""`poe feedback list`, `poe feedback export PATH`: what readers thought of answers, and dataset candidates made of it.

Exit code 0: done. 1: the feedback or the target cannot be read or written. 2: a setting or the command line is wrong.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ports import FeedbackBook
from llm_engineering.infrastructure.files import reason_of, write_whole
from llm_engineering.infrastructure.tracing.jsonl import read_traces
from llm_engineering.settings import load_settings
from tools.command import errors_as_exit_codes
from tools.terminal import plain, say
from tools.traces import answer_of, question_of


@click.group()
def feedback() -> None:
    """What readers thought of answers."""


@feedback.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
def list_(limit: int) -> None:
    """The last word on each answer, newest first."""
    from rich.console import Console
    from rich.table import Table

    with errors_as_exit_codes():
        words = list(last_words(_book()))[::-1]
        ups = sum(one.thumbs_up for one in words)
        console = Console(highlight=False)
        if not words:
            console.print("No feedback yet: the thumbs under each answer of the chat page give it, and POST /feedback.")
            return
        table = Table("when", "", "question", "comment", "trace", box=None, padding=(0, 2, 0, 0))
        for one in words[:limit]:
            when = f"{one.at:%Y-%m-%d %H:%M}" if one.at else "?"
            up = "up" if one.thumbs_up else "down"
            table.add_row(when, up, plain(one.question[:80]), plain(one.comment[:200]), plain(one.trace_id))
        console.print(table)
        console.print(f"{ups} up, {len(words) - ups} down")


@feedback.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def export(path: Path) -> None:
    """Write dataset candidates to PATH, one JSON line for each answer: chosen (thumbs up) or rejected (down)."""
    with errors_as_exit_codes():
        words = list(last_words(_book()))
        found = list(candidates(words, load_settings().home / "traces"))
        _write(path, found)
        chosen = sum(one["chosen"] is not None for one in found)
        say(
            f"{len(found)} candidates in {path}: {chosen} chosen, {len(found) - chosen} rejected; "
            f"{len(words) - len(found)} left out, for neither they nor their trace hold question and answer",
            err=True,
        )


def last_words(book: FeedbackBook) -> Iterator[Feedback]:
    """One for each answer, oldest first: who changes the thumb or adds a comment means the later one."""
    last: dict[str, Feedback] = {}
    for one in book.all():
        earlier = last.pop(one.trace_id, None)
        if earlier and not one.comment and earlier.thumbs_up == one.thumbs_up:
            one = one.model_copy(update={"comment": earlier.comment})
        last[one.trace_id] = one
    yield from last.values()


def candidates(words: list[Feedback], traces: Path) -> Iterator[dict]:
    """question, chosen, rejected (the one that is not meant is null), comment, trace_id, at. What a client did not
    send with its feedback is looked up in the trace; without question and answer there is no candidate."""
    lacking = {one.trace_id for one in words if not (one.question.strip() and one.answer.strip())}
    known = {trace["id"]: trace for trace in read_traces(traces) if trace["id"] in lacking} if lacking else {}
    for one in words:
        trace = known.get(one.trace_id, {})
        question, answer = one.question.strip() or question_of(trace), one.answer.strip() or answer_of(trace)
        if question and answer:
            yield {
                "question": question,
                "chosen": answer if one.thumbs_up else None,
                "rejected": None if one.thumbs_up else answer,
                "comment": one.comment,
                "trace_id": one.trace_id,
                "at": one.at.isoformat() if one.at else None,
            }


def _write(path: Path, rows: list[dict]) -> None:
    """Whole or not at all."""
    try:
        write_whole(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    except OSError as error:
        raise LLMTwinError(f"{path} cannot be written: {reason_of(error)}") from error


def _book() -> FeedbackBook:
    from llm_engineering.bootstrap import build_feedback

    return build_feedback(load_settings())


if __name__ == "__main__":
    feedback()
