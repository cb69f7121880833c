"""What strangers wrote reaches the terminal of no command as anything but letters."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import ROOT
from loguru import logger
from passages import fill, passage
from rich.console import Console
from stores import a_document, an_entry

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ledger import DocumentFailure, Outcome, Reason
from llm_engineering.domain.runs import CrawlReport, Failure, RunRecord
from tools.ask import main as ask
from tools.command import errors_as_exit_codes
from tools.crawl_status import crawl_status
from tools.diagnosis import Finding, State, print_findings
from tools.feedback import feedback
from tools.forget import forget
from tools.progress import live, show_record
from tools.terminal import plain, say, say_json
from tools.traces import traces
from tools.warehouse import warehouse

# the clipboard (OSC 52), a link (OSC 8), a title, a bell, colours, 8-bit controls, letters turned round, markup of rich
MARKUP = "[bold red]loud[/] [link=https://evil.example]here[/link]"
HOSTILE = (
    "\x1b]52;c;ZXZpbA==\x07 \x1b]8;;https://evil.example\x1b\\ \x1b]0;title\x07 \x1b[2J\x1b[1;31m "
    f"\x9b31m \x9d0;t\x9c \x90\u202e\u2066\u200f\u2028 {MARKUP} \r\n\x08\x7f\U000e0041 end"
)
LETTERS_ONLY = {*map(chr, range(0x20, 0x7F)), *map(chr, range(0xA0, 0x2000)), "\n", "\t", "…", "→"}
HARMLESS = set("─━│┃┏┳┓┡╇┩└┴┘┌┬┐├┼┤╸╺╭╮╰╯✓✗!“”·")


def is_only_letters(text: str) -> bool:
    assert set(text) <= LETTERS_ONLY | HARMLESS, sorted(map(ascii, set(text) - LETTERS_ONLY - HARMLESS))
    return True


def run(command: click.Command, *arguments: str, **more) -> str:
    """Both outputs, as a terminal gets them: click strips nothing of what it is given."""
    wide = {"COLUMNS": "2000"}
    result = CliRunner(env=wide).invoke(command, list(arguments), color=True, **more)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert is_only_letters(result.output)
    return result.output


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything in it was written by a stranger."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    with open_platform() as platform:
        chunk = passage(
            0,
            document=0,
            text=f"Flour, water and salt make bread. {HOSTILE}",
            title=HOSTILE,
            headings=(HOSTILE,),
            url=f"https://x.example/{HOSTILE}",
            author_name=HOSTILE,
        )
        spec = IndexSpec(embedding=platform.embedder.spec)
        fill(platform.vectors, [EmbeddedChunk(chunk, platform.embedder.embed([chunk.text])[0])], spec=spec)
        platform.warehouse.put([a_document(HOSTILE.strip(), HOSTILE, author=HOSTILE)])
        dead = {"reason": Reason.DNS, "detail": HOSTILE, "attempts": 1}
        platform.ledger.record([an_entry(HOSTILE, Outcome.DEAD, author=HOSTILE, **dead)])
        failure = DocumentFailure(
            document_id="x",
            link=HOSTILE,
            author_name=HOSTILE,
            reason=Reason.UNREADABLE,
            detail=HOSTILE,
            code_version="",
            failed_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        platform.ledger.record_document_failures([failure])
        trace = platform.tracer.start("answer", question=HOSTILE)
        with trace.stage(HOSTILE, **{HOSTILE: [HOSTILE]}):
            pass
        trace.finish(question=HOSTILE, answer=HOSTILE, outcome=HOSTILE)
        said = {"question": f"{MARKUP}\x1b]0;t\x07", "comment": HOSTILE, "answer": HOSTILE}
        platform.feedback.add(Feedback(trace_id=HOSTILE[:40], thumbs_up=True, **said))
        return platform.settings.home


@pytest.mark.usefixtures("home")
def test_passages_and_answers(tmp_path):
    assert run(ask, "What makes bread?", "--passages").count(MARKUP) == 4  # title, author, link, text
    (tmp_path / "ask.yaml").write_text("retrieval: {min_relevance: 0.0, rerank: none}\n")
    assert MARKUP in run(ask, "What makes bread?", "--config", str(tmp_path / "ask.yaml"))
    assert "nothing by" in run(ask, "What makes bread?", "--author", HOSTILE)


@pytest.mark.usefixtures("home")
def test_links_reasons_and_authors():
    assert run(crawl_status).count(MARKUP) >= 5
    known = json.loads(run(crawl_status, "--json"))
    assert known["dead_letters"][0]["detail"] == known["unindexed_documents"][0]["detail"] == HOSTILE
    assert MARKUP in run(crawl_status, "--author", "Nobody")


@pytest.mark.usefixtures("home")
def test_traces_and_what_readers_said():
    assert MARKUP in run(traces)
    [id_] = [json.loads(line)["id"] for line in run(traces, "--json").splitlines()]
    assert MARKUP in run(traces, "--id", id_)
    assert run(feedback, "list").count(MARKUP) == 2


@pytest.mark.usefixtures("home")
def test_names_of_authors_who_are_forgotten(tmp_path):
    assert MARKUP in run(forget, "--author", "Xanthippe Unheardof", "--yes")
    assert MARKUP in run(forget, "--author", HOSTILE, input="n\n")
    assert "1 documents" in run(forget, "--author", HOSTILE, "--yes")


def test_a_file_to_be_imported(tmp_path):
    name = HOSTILE.replace("/", "").replace("\n", "")
    (tmp_path / name).write_text("no export")
    assert "no export of a warehouse" in run(warehouse, "import", str(tmp_path / name))


def test_reports_and_what_the_doctor_finds():
    lost = Failure(link=HOSTILE, reason=Reason.DNS, detail=HOSTILE, retry=False)
    report = CrawlReport(author=HOSTILE, failed=9, failures=(lost,), started_at=datetime(2026, 1, 1, tzinfo=UTC))
    file = StringIO()
    console = Console(file=file, width=2000, highlight=False)
    show_record(console, RunRecord((report,)))
    with live(console):
        pass
    drawn = file.getvalue()
    assert drawn.count(MARKUP) == 4
    assert is_only_letters(drawn)


def test_what_the_doctor_finds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    print_findings([Finding(piece="configs", state=State.BROKEN, found=f"one\n{HOSTILE}", mend=HOSTILE)])
    drawn = capsys.readouterr().out
    assert drawn.count(MARKUP) == 2
    assert is_only_letters(drawn)


def test_errors(capsys):
    with pytest.raises(SystemExit), errors_as_exit_codes():
        raise LLMTwinError(f"{HOSTILE}: cannot be read\nthe second line stays one")
    said = capsys.readouterr().err
    assert MARKUP in said
    assert said.endswith("\nthe second line stays one\n")
    assert is_only_letters(said)


def test_lines_of_the_log_and_tracebacks_in_it(home):
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", backtrace=False, diagnose=True)
    try:
        with open_platform():
            logger.warning("{} is not read", HOSTILE)
            try:
                raise ValueError(HOSTILE)
            except ValueError:
                logger.exception("a bug: {}", HOSTILE)
    finally:
        logger.remove(sink)
    said = "".join(lines)
    assert said.count(MARKUP) >= 3
    assert "ValueError" in said
    assert is_only_letters(said)


def test_what_nobody_caught_and_what_libraries_log():
    script = """
import logging, sys
from llm_engineering.bootstrap import open_platform
with open_platform():
    logging.getLogger("a library").warning("%s", sys.argv[1])
    raise ValueError(sys.argv[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, HOSTILE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count(MARKUP) == 2
    assert "ValueError" in done.stderr
    assert is_only_letters(done.stdout + done.stderr)


def test_what_is_said_is_said_whole(capsys):
    say("täglich 中文 😀 e\u0301 \u200d\tx\n y")
    say_json({"a": "täglich \x9b"}, indent=1)
    out = capsys.readouterr().out
    assert out.startswith("täglich 中文 😀 e\u0301 \u200d\tx\n y\n")
    assert json.loads(out.partition(" y\n")[2]) == {"a": "täglich \x9b"}
    assert plain("a\nb  c\\") == "a b c\\\\"


def test_nothing_else_writes_to_the_terminal():
    """A command that prints by itself has gone round the one way out."""
    tools = Path(sys.modules["tools.terminal"].__file__ or "").parent
    texts = {path.name: path.read_text() for path in tools.glob("*.py") if path.name != "terminal.py"}
    assert [name for name, text in texts.items() if "click.echo(" in text or "markup import escape" in text] == []
