from datetime import UTC, datetime
from io import StringIO

from loguru import logger
from rich.console import Console

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.runs import CrawlReport, Failure, FeatureReport, RunRecord
from steps.run_control import listeners, publish_progress
from tools.progress import live, plain, show_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, color_system=None, highlight=False)


def drawn_on(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_author_has_a_line_that_counts():
    console = terminal()
    with live(console):
        publish_progress(CrawlReport(author="Ann", links=4, read=1, unchanged=1, failed=2, started_at=NOW))
        publish_progress(CrawlReport(author="Bob", links=1, read=1, started_at=NOW))
        publish_progress(FeatureReport(started_at=NOW, documents_indexed=7, chunks_embedded=1200))
    drawn = drawn_on(console)

    assert "2 links, 2 failed" in drawn
    assert "Bob" in drawn
    assert "7 documents, 1,200 passages embedded" in drawn
    assert listeners == []


def test_on_a_pipe_nothing_is_drawn():
    console = Console(file=StringIO(), width=120)
    with live(console):
        publish_progress(CrawlReport(author="Ann", links=1, read=1, started_at=NOW))
    assert drawn_on(console) == ""


def test_the_first_failures_are_shown_and_the_rest_counted():
    lost = tuple(Failure(link=f"https://a/{n}", reason=Reason.DNS, detail="gone", retry=n > 0) for n in range(9))
    console = terminal()
    show_record(console, RunRecord((CrawlReport(author="Ann", failed=9, failures=lost, started_at=NOW),)))
    shown = drawn_on(console)

    assert shown.count("dns https://a/") == 5
    assert "and 4 more of Ann" in shown
    assert shown.count("needs a change first") == 1


def test_text_from_outside_moves_no_cursor_and_is_no_markup():
    assert plain("\x1b[2Jname\r\n") == "[2Jname"
    assert plain("[bold]x") == "\\[bold]x"


def test_on_a_terminal_the_log_says_only_what_is_a_bug():
    """What is lost stands in the table at the end."""
    console = terminal()
    with live(console):
        logger.warning("a link was not read")
        logger.error("this is a bug")
    drawn = drawn_on(console)
    assert "this is a bug" in drawn
    assert "not read" not in drawn


def test_on_a_pipe_the_log_stays_as_it_is():
    messages: list[str] = []
    sink = logger.add(messages.append, format="{message}")
    try:
        with live(Console(file=StringIO(), width=120)):
            logger.warning("a link was not read")
    finally:
        logger.remove(sink)
    assert messages == ["a link was not read\n"]
