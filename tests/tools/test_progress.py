from datetime import UTC, datetime
from io import StringIO

import pytest
from loguru import logger
from rich.console import Console

from llm_engineering.domain.ledger import LedgerEntry, Outcome, Reason
from llm_engineering.domain.runs import CrawlReport, Failure, FeatureReport
from steps.run_record import RunRecord
from steps.watching import listeners, tell
from tools.progress import live, plain, show_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, color_system=None, highlight=False)


def entry(author: str, outcome: Outcome) -> LedgerEntry:
    link = f"https://{author}.example".lower()
    who = {"author_id": author, "author_name": author, "source": "web_article"}
    return LedgerEntry(link=link, url=link, **who, outcome=outcome, first_seen=NOW, last_attempt=NOW)


def test_every_author_has_a_line_that_counts():
    console = terminal()
    with live(console):
        for outcome in (Outcome.READ, Outcome.UNCHANGED, Outcome.FAILED, Outcome.DEAD):
            tell(entry("Ann", outcome))
        tell(entry("Bob", Outcome.READ))
        tell(FeatureReport(started_at=NOW, documents_indexed=7, chunks_embedded=1200))
    shown = console.file.getvalue()

    assert "2 links, 2 failed" in shown
    assert "Bob" in shown
    assert "7 documents, 1,200 passages embedded" in shown
    assert listeners == []


def test_on_a_pipe_nothing_is_drawn():
    console = Console(file=StringIO(), width=120)
    with live(console):
        tell(entry("Ann", Outcome.READ))
    assert console.file.getvalue() == ""


def test_the_first_failures_are_shown_and_the_rest_counted():
    lost = tuple(Failure(link=f"https://a/{n}", reason=Reason.DNS, detail="gone", retry=n > 0) for n in range(9))
    console = terminal()
    show_record(console, RunRecord([CrawlReport(author="Ann", failed=9, failures=lost, started_at=NOW)], None, {}))
    shown = console.file.getvalue()

    assert shown.count("dns https://a/") == 5
    assert "and 4 more of Ann" in shown
    assert shown.count("needs a change first") == 1


def test_text_from_outside_moves_no_cursor_and_is_no_markup():
    assert plain("\x1b[2Jname\r\n") == "[2Jname"
    assert plain("[bold]x") == "\\[bold]x"


@pytest.mark.parametrize("console", [terminal(), Console(file=StringIO(), width=120)], ids=["terminal", "pipe"])
def test_a_lost_link_is_logged_where_no_terminal_shows_it(console):
    logged = []
    sink = logger.add(logged.append, format="{message}")
    try:
        with live(console):
            tell(entry("Ann", Outcome.READ))
            tell(entry("Ann", Outcome.FAILED).model_copy(update={"reason": Reason.DNS, "detail": "no such name"}))
    finally:
        logger.remove(sink)
    lost = [] if console.is_terminal else ["Ann: https://ann.example not read: dns no such name\n"]
    assert [str(message) for message in logged] == lost
