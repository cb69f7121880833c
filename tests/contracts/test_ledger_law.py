"""The law of `Ledger`, for every adapter."""

from datetime import UTC, datetime, timedelta

import pytest
from stores import a_document, an_entry

from llm_engineering.domain.documents import Author
from llm_engineering.domain.ledger import DocumentFailure, Outcome, Reason
from llm_engineering.domain.personal_data import DataSubject

ANN, BOB = Author(name="Ann").id, Author(name="Bob").id


def test_an_entry_comes_back_exactly(ledger):
    entry = an_entry(
        outcome=Outcome.FAILED,
        reason=Reason.HTTP_ERROR,
        detail="HTTP 503 “later”\0",
        attempts=3,
        last_success=datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        etag='W/"x"',
        last_modified="Thu, 01 Jan 2026 00:00:00 GMT",
        documents=12,
    )
    ledger.record([entry])
    assert ledger.entry(entry.link) == entry
    assert ledger.entry("https://example.com/never") is None


def test_a_link_has_one_entry_and_the_last_one_counts(ledger):
    ledger.record([an_entry(attempts=1), an_entry(attempts=2)])
    ledger.record([an_entry(outcome=Outcome.DEAD, attempts=3)])
    assert [(e.outcome, e.attempts) for e in ledger.entries()] == [(Outcome.DEAD, 3)]


def test_recording_nothing_is_fine(ledger):
    ledger.record([])
    assert list(ledger.entries()) == []


def test_entries_come_by_link_and_by_what_was_asked(ledger):
    ledger.record(
        [
            an_entry("b", Outcome.FAILED),
            an_entry("a", Outcome.READ),
            an_entry("c", Outcome.DEAD),
            an_entry("d", Outcome.FAILED, author="Bob"),
        ]
    )

    def names(**where):
        return [entry.link[-1] for entry in ledger.entries(**where)]

    assert names() == ["a", "b", "c", "d"]
    assert names(author_id=ANN) == ["a", "b", "c"]
    assert names(outcome=Outcome.FAILED) == ["b", "d"]
    assert names(outcome=(Outcome.FAILED, Outcome.DEAD)) == ["b", "c", "d"]
    assert names(author_id=BOB, outcome=(Outcome.FAILED, Outcome.DEAD)) == ["d"]
    assert names(outcome=()) == []


def test_more_entries_than_a_page_are_all_read(ledger):
    ledger.record(an_entry(f"{i:05}") for i in range(1203))
    assert [entry.link[-5:] for entry in ledger.entries()] == [f"{i:05}" for i in range(1203)]


def test_an_unfinished_run_is_remembered_until_it_is_finished(open_stores):
    _, ledger = open_stores()
    before = datetime.now(UTC)
    began = ledger.begin(ANN, "config 1")
    assert before <= began <= datetime.now(UTC)
    assert began.utcoffset() == timedelta(0)
    _, reopened = open_stores()
    assert reopened.begin(ANN, "config 1") == began
    assert ledger.begin(BOB, "config 1") > began
    reopened.finish(ANN, "config 1")
    assert ledger.begin(ANN, "config 1") > began


def test_a_run_with_another_config_forgets_the_unfinished_one(ledger):
    first = ledger.begin(ANN, "config 1")
    second = ledger.begin(ANN, "config 2")
    ledger.finish(ANN, "config 1")  # not the one that runs
    assert ledger.begin(ANN, "config 2") == second
    assert ledger.begin(ANN, "config 1") > first


def a_failure(number: int, author: str = "Ann", **more: str) -> DocumentFailure:
    return DocumentFailure(
        document_id=f"{number:05}",
        link=f"https://example.com/{number}",
        author_id=Author(name=author).id,
        author_name=author,
        source="web_article",
        reason=Reason.UNREADABLE,
        detail=more.get("detail", "clean: “encrypted”\0"),
        code_version="1",
        failed_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    )


def test_a_document_that_failed_is_kept_exactly_until_it_is_resolved(ledger):
    ledger.record_document_failures([a_failure(2), a_failure(1), a_failure(3, "Bob")])
    ledger.record_document_failures([a_failure(2, detail="another reason")])
    assert list(ledger.document_failures()) == [
        a_failure(1),
        a_failure(2, detail="another reason"),
        a_failure(3, "Bob"),
    ]
    assert [one.document_id for one in ledger.document_failures(author_id=BOB)] == ["00003"]
    ledger.resolve_document_failures(["00001", "00003", "never"])
    assert [one.document_id for one in ledger.document_failures()] == ["00002"]
    ledger.record_document_failures([])
    ledger.resolve_document_failures([])
    assert list(ledger.entries()) == []  # a link's outcome is another matter


def test_more_documents_that_failed_than_a_page_are_all_read_and_resolved(ledger):
    ledger.record_document_failures(a_failure(i) for i in range(1203))
    assert [int(one.document_id) for one in ledger.document_failures()] == list(range(1203))
    ledger.resolve_document_failures(f"{i:05}" for i in range(1203))
    assert list(ledger.document_failures()) == []


def test_erasing_an_author_leaves_the_others(ledger):
    ledger.record([an_entry("a"), an_entry("b"), an_entry("c", author="Bob")])
    ledger.record_document_failures([a_failure(1), a_failure(2, "Bob")])
    began = ledger.begin(ANN, "x")
    assert (ledger.holds(DataSubject(name="Ann")), ledger.holds(DataSubject(name="Bob"))) == (2, 1)
    assert ledger.erase(DataSubject(name=" ann ")).number == 2
    assert [one.author_name for one in ledger.document_failures()] == ["Bob"]
    assert [entry.author_name for entry in ledger.entries()] == ["Bob"]
    assert ledger.begin(ANN, "x") > began
    assert (ledger.holds(DataSubject(name="Ann")), ledger.erase(DataSubject(name="Ann")).number) == (0, 0)


@pytest.mark.parametrize("order", ["warehouse", "ledger"])
def test_the_ledger_and_the_warehouse_do_not_disturb_each_other(open_stores, order):
    warehouse, ledger = open_stores()
    warehouse.put([a_document()])
    ledger.record([an_entry()])
    (warehouse if order == "warehouse" else ledger).erase(DataSubject(name="Ann"))
    assert (warehouse.count(), len(list(ledger.entries()))) == ((0, 1) if order == "warehouse" else (1, 0))
