"""`poe crawl-status`: what it shows, as a table and as JSON."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.documents import Author
from llm_engineering.domain.ledger import DocumentFailure, LedgerEntry, Outcome, Reason
from tools.crawl_status import ADVICE, MAX_ROWS, crawl_status


def entry(name, outcome, *, author="Ann", **more):
    link, at = f"https://example.com/{name}", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    fields = {
        "link": link,
        "url": link,
        "author_id": Author(name=author).id,
        "author_name": author,
        "source": "web_article",
    }
    return LedgerEntry(**fields, outcome=outcome, first_seen=at, last_attempt=at, **more)


@pytest.fixture
def ledger():
    """Kept where the command looks: in TWIN_HOME."""

    def record(*entries):
        with open_platform() as platform:
            platform.ledger.record(entries)

    return record


def run(*arguments):
    return CliRunner().invoke(crawl_status, arguments, env={"COLUMNS": "200"})


LETTERS = (
    entry("a", Outcome.READ, last_success=datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
    entry("b", Outcome.FAILED, reason=Reason.TIMEOUT, detail="20 s", attempts=1),
    entry("c", Outcome.DEAD, reason=Reason.NOT_FOUND, detail="HTTP 404 [sic]", attempts=3),
    entry("d", Outcome.DEAD, reason=Reason.MISSING_FILE, attempts=1),
    entry("e", Outcome.GONE, author="Bob [x]"),
)


def test_every_author_and_every_dead_letter_is_shown(ledger):
    ledger(*LETTERS)
    result = run()
    assert result.exit_code == 0
    assert "Dead letters: 3" in result.output
    for words in (
        "Ann",
        "Bob [x]",
        "https://example.com/b",
        "failed (timeout: 20 s); 1 attempt, the last 2026-01-02 03:04",
        "dead (not_found: HTTP 404 [sic]); 3 attempts",
        "correct or remove the link; then --retry-failed",
    ):
        assert words in result.output
    assert "https://example.com/a" not in result.output
    assert "relative to where you run; then" not in result.output  # asked again by every run


def test_json_says_the_same(ledger):
    ledger(*LETTERS)
    told = json.loads(run("--json").output)
    assert told["authors"] == [
        {"author": "Ann", "links": 4, "read": 1, "unchanged": 0, "gone": 0, "failed": 1, "dead": 2},
        {"author": "Bob [x]", "links": 1, "read": 0, "unchanged": 0, "gone": 1, "failed": 0, "dead": 0},
    ]
    letters = {letter["link"][-1]: letter for letter in told["dead_letters"]}
    assert sorted(letters) == ["b", "c", "d"]
    assert letters["c"]["reason"] == "not_found"
    assert letters["c"]["attempts"] == 3
    assert letters["c"]["last_attempt"] == "2026-01-02T03:04:00+00:00"
    assert letters["b"]["advice"] == ADVICE[Reason.TIMEOUT]
    assert letters["b"]["last_success"] is None


def test_documents_that_are_not_in_the_index_are_listed_with_why_and_what_to_do(ledger):
    ledger(*LETTERS)
    ann, bob = (
        DocumentFailure(
            document_id=name,
            link=f"https://example.com/{name}.pdf",
            author_id=Author(name=name).id,
            reason=Reason.UNREADABLE,
            detail="clean: the PDF is encrypted [x]",
            code_version="1",
            failed_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        )
        for name in ("Ann", "Bob [x]")
    )
    with open_platform() as platform:
        platform.ledger.record_document_failures([ann, bob])
    output = run().output
    assert "Documents that are not in the index: 2" in output
    assert f"{ann.link}\n  unreadable (clean: the PDF is encrypted [x])\n  {ADVICE[Reason.UNREADABLE]}" in output
    [listed] = json.loads(run("--author", "Ann", "--json").output)["unindexed_documents"]
    assert (listed["link"], listed["reason"], listed["detail"]) == (ann.link, "unreadable", ann.detail)


def test_one_author_only(ledger):
    ledger(*LETTERS)
    assert json.loads(run("--author", "bob [X]", "--json").output)["authors"][0]["author"] == "Bob [x]"
    unknown = run("--author", "Cy")
    assert unknown.exit_code == 2
    assert "known: Ann, Bob [x]" in unknown.output


def test_nothing_crawled_and_nothing_lost(ledger):
    assert "Nothing was crawled yet" in run().output
    ledger(LETTERS[0])
    assert "No dead letters" in run().output


def test_a_long_list_is_cut_in_the_table_and_whole_in_json(ledger):
    ledger(*(entry(f"x{n}", Outcome.FAILED, reason=Reason.DNS) for n in range(MAX_ROWS + 5)))
    assert "and 5 more" in run().output
    assert len(json.loads(run("--json").output)["dead_letters"]) == MAX_ROWS + 5


def test_every_reason_has_advice():
    assert set(ADVICE) == set(Reason)


def test_a_wrong_setting_is_said_without_a_traceback(monkeypatch):
    monkeypatch.setenv("TWIN_WAREHOUSE", "oracle://x")
    result = run()
    assert result.exit_code == 2
    assert "TWIN_WAREHOUSE" in result.output
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
