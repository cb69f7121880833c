"""The law of `Warehouse`, for every adapter."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import pytest
from stores import a_document, an_entry

from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import (
    AuthorErased,
    LinkConflict,
    SourceError,
    StoreLocked,
    StoreUnavailable,
    TokenExpired,
)
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import PutResult

ANN, BOB = Author(name="Ann").id, Author(name="Bob").id
ANN_HERSELF = DataSubject(name=" ann ")


def last_token(warehouse, since=None):
    token = since
    for change in warehouse.changes(since):
        token = change.token
    return token


def changed(warehouse, since):
    return {change.document_id: change.document for change in warehouse.changes(since)}


# --- writing and reading ------------------------------------------------------------------------------------


def test_a_stored_document_comes_back_exactly(warehouse):
    document = a_document(
        title="Ünïcode “title”",
        source="substack",
        kind=Kind.POST,
        published_at=datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        media_type="application/pdf",
        encoding="base64",
        meta={"$where": {"a.b": [1, None, 2**70, 0.1]}, "": "empty key", "deep": {"$set": {".": True}}},
    )
    assert warehouse.put([document]) == PutResult(1, 0, 0)
    stored = warehouse.get(document.id)
    assert stored.model_copy(update={"updated_at": None}) == document
    assert stored.content_hash == document.content_hash
    assert stored.published_at.utcoffset() == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    "text",
    [
        "NUL \0 inside \0",
        "half \ud800 a character",
        "two halves \ud83d\ude00",
        "a whole one 😀",
        "\r\n\u2028\x1b\ufeff",
        "",
    ],
    ids=["nul", "lone surrogate", "split pair", "emoji", "control", "empty"],
)
def test_any_text_comes_back_exactly(warehouse, text):
    document = a_document(body=text, title=text, meta={"text": text})
    warehouse.put([document])
    stored = warehouse.get(document.id)
    assert (stored.body, stored.title, stored.meta) == (text, text, {"text": text})
    assert warehouse.put([stored]) == PutResult(0, 0, 1)


def test_a_document_of_15_MB_comes_back_exactly(warehouse):
    body = ("0123456789abcdef\n" * 1_000_000)[:15_000_000]
    document = a_document(body=body)
    warehouse.put([document])
    assert warehouse.get(document.id).body == body
    assert [change.document.body == body for change in warehouse.changes(None)] == [True]


def test_the_moment_of_the_write_is_kept_in_utc(warehouse):
    before = datetime.now(UTC)
    warehouse.put([a_document()])
    updated_at = warehouse.get(a_document().id).updated_at
    assert updated_at.utcoffset() == timedelta(0)
    assert before <= updated_at <= datetime.now(UTC)


def test_what_is_not_there_is_none(warehouse):
    assert warehouse.get(a_document().id) is None
    assert warehouse.count() == 0
    assert list(warehouse.documents()) == list(warehouse.ids()) == list(warehouse.changes(None)) == []
    assert warehouse.delete([a_document().id]) == 0
    assert (warehouse.holds(ANN_HERSELF), warehouse.erase(ANN_HERSELF).number) == (0, 0)
    assert warehouse.put([]) == PutResult(0, 0, 0)


def test_documents_come_by_id_and_by_what_was_asked(warehouse):
    mine = [a_document(f"a{i}", crawled_from="https://example.com/repository") for i in range(30)]
    warehouse.put([*mine, a_document("b", author="Bob"), a_document("c")])
    ids = list(warehouse.ids())
    assert ids == sorted(ids)
    assert len(ids) == warehouse.count() == 32
    assert [d.id for d in warehouse.documents()] == ids
    assert list(warehouse.ids(author_id=BOB)) == [a_document("b").id]
    assert warehouse.count(author_id=ANN) == 31
    assert list(warehouse.ids(crawled_from="https://example.com/repository")) == sorted(d.id for d in mine)
    assert list(warehouse.ids(author_id=BOB, crawled_from="https://example.com/repository")) == []
    assert [d.id for d in warehouse.documents(author_id=BOB)] == [a_document("b").id]


def test_more_documents_than_a_page_are_all_read(warehouse):
    many = {a_document(f"{i}").id for i in range(601)}
    warehouse.put(a_document(f"{i}") for i in range(601))
    assert list(warehouse.ids()) == sorted(many)
    assert len(changed(warehouse, None)) == 601


def test_reading_goes_on_while_documents_are_written_and_deleted(warehouse):
    first = [a_document(f"{i}") for i in range(40)]
    warehouse.put(first)
    reading = warehouse.documents()
    seen = [next(reading).id]
    warehouse.delete([sorted(d.id for d in first)[-1]])
    warehouse.put([a_document("new")])
    seen += [document.id for document in reading]
    assert set(sorted(d.id for d in first)[:-1]) <= set(seen)


def test_authors_are_listed_with_what_they_have(warehouse):
    warehouse.put([a_document("a"), a_document("b"), a_document("c", author="Bob")])
    assert warehouse.authors() == {"Ann": 2, "Bob": 1}


# --- revisions ----------------------------------------------------------------------------------------------


def test_a_new_revision_is_written_only_when_the_content_changed(warehouse):
    warehouse.put([a_document()])
    first = warehouse.get(a_document().id)
    assert warehouse.put([a_document(url="https://example.com/a?utm=1", meta={"commit": "x"})]) == PutResult(0, 0, 1)
    assert warehouse.get(first.id) == first
    assert warehouse.put([a_document(body="other")]) == PutResult(0, 1, 0)
    second = warehouse.get(first.id)
    assert (second.revision, second.body) == (2, "other")
    assert second.updated_at > first.updated_at
    assert warehouse.count() == 1


def test_an_unchanged_document_makes_no_change_event(warehouse):
    warehouse.put([a_document("a"), a_document("b")])
    token = last_token(warehouse)
    assert warehouse.put([a_document("a"), a_document("b")]) == PutResult(0, 0, 2)
    assert list(warehouse.changes(token)) == []


def test_the_revision_given_by_the_caller_is_not_believed(warehouse):
    warehouse.put([a_document(revision=7, updated_at=datetime(2000, 1, 1, tzinfo=UTC))])
    stored = warehouse.get(a_document().id)
    assert stored.revision == 1
    assert stored.updated_at.year > 2000


def test_a_document_that_comes_back_after_its_deletion_is_inserted(warehouse):
    warehouse.put([a_document()])
    warehouse.delete([a_document().id])
    assert warehouse.put([a_document()]) == PutResult(1, 0, 0)
    assert warehouse.get(a_document().id).revision == 1


# --- all or nothing -----------------------------------------------------------------------------------------


def test_a_put_that_fails_half_way_writes_nothing(warehouse):
    def documents():
        for i in range(600):
            yield a_document(f"{i}")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        warehouse.put(documents())
    assert warehouse.count() == 0
    assert list(warehouse.changes(None)) == []


def test_two_contents_for_one_link_in_one_put_are_refused_and_nothing_is_written(warehouse):
    with pytest.raises(LinkConflict, match=r"https://example\.com/a.*Nothing was written"):
        warehouse.put([a_document("b"), a_document("a"), a_document("a", body="other")])
    assert warehouse.count() == 0


def test_the_same_document_twice_in_one_put_is_written_once(warehouse):
    assert warehouse.put([a_document(), a_document()]) == PutResult(1, 0, 1)


def test_a_link_that_is_no_text_is_refused_and_nothing_is_written(warehouse):
    with pytest.raises(SourceError, match="surrogate"):
        warehouse.put([a_document("a"), a_document("b", crawled_from="/home/\udcff")])
    assert warehouse.count() == 0


def test_a_source_may_ask_the_warehouse_while_it_gives_documents(warehouse):
    def documents():
        for i in range(3):
            warehouse.put([a_document(f"other {i}")])
            assert warehouse.get(a_document(f"other {i}").id)
            yield a_document(f"{i}")

    assert warehouse.put(documents()) == PutResult(3, 0, 0)
    assert warehouse.count() == 6


# --- the change feed ----------------------------------------------------------------------------------------


def test_the_feed_begins_with_everything_there_is(warehouse):
    warehouse.put([a_document("a"), a_document("b")])
    assert changed(warehouse, None) == {d.id: d for d in warehouse.documents()}


def test_a_token_means_that_everything_up_to_it_is_done(warehouse):
    documents = [a_document(f"{i}") for i in range(25)]
    warehouse.put(documents)
    read = list(warehouse.changes(None))
    for stop in (0, 3, len(read) - 1):
        rest = changed(warehouse, read[stop].token)
        assert set(rest) | {change.document_id for change in read[: stop + 1]} == {d.id for d in documents}
        assert not set(rest) & {change.document_id for change in read[: stop + 1]}


def test_inserts_edits_and_deletes_follow_the_token(warehouse):
    warehouse.put([a_document("a"), a_document("b"), a_document("c")])
    token = last_token(warehouse)
    warehouse.put([a_document("a", body="edited"), a_document("d")])
    assert warehouse.delete([a_document("b").id, a_document("never was").id]) == 1
    news = changed(warehouse, token)
    assert news[a_document("a").id].body == "edited"
    assert news[a_document("d").id].revision == 1
    assert news[a_document("b").id] is None
    assert a_document("c").id not in news
    assert list(warehouse.changes(last_token(warehouse, token))) == []


def test_a_reader_that_stops_in_the_middle_of_later_changes_loses_none(warehouse):
    warehouse.put([a_document("a")])
    token = last_token(warehouse)
    for i in range(6):
        warehouse.put([a_document(f"{i}")])
    seen = []
    while batch := list(islice(warehouse.changes(token), 2)):
        seen += [change.document_id for change in batch]
        token = batch[-1].token
    assert set(seen) == {a_document(f"{i}").id for i in range(6)}


def test_an_edit_during_the_first_reading_is_not_lost(warehouse):
    warehouse.put([a_document(f"{i}") for i in range(40)])
    state, token, reading = {}, None, warehouse.changes(None)
    for n, change in enumerate(reading):
        state[change.document_id], token = change.document, change.token
        if n == 20:
            warehouse.put([a_document("0", body="edited"), a_document("1", body="edited")])
            warehouse.delete([a_document("2").id])
    state |= changed(warehouse, token)
    assert {key for key, document in state.items() if document} == set(warehouse.ids())
    assert state[a_document("0").id].body == state[a_document("1").id].body == "edited"


def test_a_token_outlives_the_process(open_stores):
    warehouse, _ = open_stores()
    warehouse.put([a_document("a")])
    token = last_token(warehouse)
    warehouse.close()
    again, _ = open_stores()
    again.put([a_document("b")])
    assert set(changed(again, token)) == {a_document("b").id}


@pytest.mark.parametrize("token", ["", "x", "other:1", '{"feed": "other", "resume": {"_data": "00"}}', "[1]", "null"])
def test_a_token_of_another_warehouse_is_refused(warehouse, token):
    warehouse.put([a_document()])
    with pytest.raises(TokenExpired, match="read everything again"):
        list(warehouse.changes(token))


# --- erasing ------------------------------------------------------------------------------------------------


def test_erasing_an_author_leaves_the_others_and_tells_the_feed(warehouse):
    warehouse.put([a_document("a"), a_document("b"), a_document("c", author="Bob")])
    token = last_token(warehouse)
    assert warehouse.holds(ANN_HERSELF) == 2
    assert warehouse.erase(ANN_HERSELF).number == 2
    assert list(warehouse.ids()) == [a_document("c").id]
    assert warehouse.count(author_id=ANN) == 0
    assert changed(warehouse, token) == {a_document("a").id: None, a_document("b").id: None}
    assert (warehouse.holds(ANN_HERSELF), warehouse.erase(ANN_HERSELF).number) == (0, 0)


def test_what_was_begun_before_an_author_was_erased_stores_nothing_of_them(open_stores):
    (warehouse, ledger), (other, _) = open_stores(), open_stores()
    for author in (ANN, BOB):
        ledger.begin(author, "x")
    warehouse.put([a_document("a")])
    before = warehouse.erasures()
    assert other.erase(ANN_HERSELF).number == 1
    with pytest.raises(AuthorErased, match="nothing more of theirs is stored"):
        warehouse.put([a_document("c", author="Bob"), a_document("b")])
    with pytest.raises(AuthorErased):
        ledger.record([an_entry("a")])
    assert (warehouse.count(), list(ledger.entries())) == (0, [])
    assert warehouse.erasures() != before
    assert warehouse.put([a_document("c", author="Bob")]).inserted == 1
    ledger.begin(ANN, "x")  # a run that began since
    assert warehouse.put([a_document("a")]).inserted == 1


def test_erasing_the_ledger_ends_what_was_begun_too(open_stores):
    (warehouse, ledger), (_, other) = open_stores(), open_stores()
    ledger.begin(ANN, "x")
    ledger.record([an_entry("a")])
    assert other.erase(ANN_HERSELF).number == 1
    with pytest.raises(AuthorErased):
        warehouse.put([a_document("a")])


def test_of_an_author_who_is_erased_while_others_write_them_nothing_stays(open_stores):
    """Whatever the order in which the two commit."""
    warehouse, _ = open_stores()
    begun = threading.Barrier(3)

    def write(writer):
        mine, ledger = open_stores()
        ledger.begin(ANN, writer)
        begun.wait(60)
        for i in range(10_000):
            mine.put([a_document(f"{writer}-{i}")])

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, writer) for writer in ("x", "y")]
        begun.wait(60)
        erased = False
        while not erased:
            with suppress(StoreLocked):  # they are in the way of wiping, not of deleting
                warehouse.erase(ANN_HERSELF)
                erased = True
        for one in writing:
            with pytest.raises(AuthorErased):
                one.result(timeout=60)
    assert warehouse.count() == 0


def test_no_name_is_kept_of_an_erased_author(store_url, open_stores):
    warehouse, ledger = open_stores()
    warehouse.put([a_document("a")])
    warehouse.erase(ANN_HERSELF)
    ledger.erase(ANN_HERSELF)
    warehouse.close()
    if store_url.startswith("sqlite"):
        file = Path(store_url.removeprefix("sqlite:///"))
        assert ANN.encode() not in b"".join(one.read_bytes() for one in file.parent.glob("warehouse.db*"))


# --- identity -----------------------------------------------------------------------------------------------


def test_a_warehouse_has_an_id_that_stays_and_that_a_new_one_may_take_over_from_its_original(open_stores):
    warehouse, _ = open_stores()
    assert open_stores()[0].ref == warehouse.ref
    warehouse.adopt("0123abcd")
    assert open_stores()[0].ref.id == warehouse.ref.id == "0123abcd"
    warehouse.put([a_document()])
    token = last_token(warehouse)
    warehouse.adopt("another")
    assert open_stores()[0].ref.id == warehouse.ref.id == "0123abcd"
    assert list(warehouse.changes(token)) == []


# --- restoring (for import) ---------------------------------------------------------------------------------


def test_restoring_keeps_revisions_and_dates_and_never_overwrites_what_is_newer(warehouse):
    old, new = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, 2, 3, 4, 5, tzinfo=UTC)
    document = a_document("a", revision=3, updated_at=old)
    assert warehouse.restore([document]) == (1, 0, 0, 0)
    assert warehouse.get(document.id) == document
    assert warehouse.restore([document]) == (0, 0, 1, 0)
    newer = a_document("a", body="newer", revision=4, updated_at=new)
    assert warehouse.restore([newer]) == (0, 1, 0, 0)
    assert warehouse.restore([document]) == (0, 0, 0, 1)
    assert warehouse.get(document.id) == newer


# --- more than one at a time --------------------------------------------------------------------------------


def test_a_reader_that_tails_four_writers_misses_nothing(open_stores):
    warehouse, _ = open_stores()
    each, writers = 15, 4
    done = threading.Event()

    def write(writer):
        mine, _ = open_stores()
        for i in range(each):
            mine.put([a_document(f"{writer}-{i}"), a_document(f"shared {i % 5}", body=f"{writer} {i}")])

    def tail():
        state, token = {}, None
        while True:
            last_round = done.is_set()
            for change in warehouse.changes(token):
                state[change.document_id], token = change.document.body, change.token
            if last_round:
                return state

    with ThreadPoolExecutor(writers + 1) as pool:
        reader = pool.submit(tail)
        try:
            for writing in [pool.submit(write, writer) for writer in range(writers)]:
                writing.result()
        finally:
            done.set()
        assert reader.result() == {d.id: d.body for d in warehouse.documents()}
    assert warehouse.count() == each * writers + 5


def test_one_warehouse_may_be_used_by_many_threads(warehouse):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: warehouse.put([a_document(f"{i}"), a_document("same")]), range(20)))
    assert sum(result.inserted for result in results) == 21
    assert warehouse.count() == 21


def test_a_closed_warehouse_says_so(open_stores):
    warehouse, ledger = open_stores()
    warehouse.close()
    warehouse.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        warehouse.count()
    with pytest.raises(StoreUnavailable, match="closed"):
        ledger.entry("x")
