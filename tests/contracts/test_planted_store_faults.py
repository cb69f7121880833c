"""A law that cannot fail is none: one fault planted in each store, and the law of its role turns red."""

from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from contracts import test_ledger_law as ledger_law
from contracts import test_vector_store_law as vector_law
from contracts import test_warehouse_law as warehouse_law
from passages import RETRAINED
from planted import Planted, turns_red
from vector_stores import QDRANT, STORES, opened_store

from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

Fault = Callable[[Any], Planted]  # an adapter with a fault in it
Law = Callable[[Any], object]  # a law's test, of an adapter


# --- the vector store ---


def reader(**faults: Callable[..., Any]) -> Fault:
    return lambda store: Planted(store, reader=lambda real, spec=None: Planted(real(spec), **faults))


def writer(**faults: Callable[..., Any]) -> Fault:
    @contextmanager
    def planted(real, *arguments, **options):
        with real(*arguments, **options) as opened:
            yield Planted(opened, **faults)

    return lambda store: Planted(store, writer=planted)


def worst_first(real, *arguments, **how):
    return list(real(*arguments, **how))[::-1]


def each_worst_first(real, searches, **how):
    return [hits[::-1] for hits in real(searches, **how)]


VECTOR_FAULTS: dict[str, tuple[Fault, Law]] = {
    "loses a chunk": (
        writer(replace=lambda real, ids, new, kept: real(ids, new[:-1], kept)),
        vector_law.test_writing_twice_is_writing_once,
    ),
    "keeps what was removed": (
        writer(replace=lambda real, ids, new, kept: real(ids, new, kept) if new or kept else None),
        vector_law.test_a_removed_page_leaves_no_chunk,
    ),
    "forgets the payload of what is kept": (
        writer(replace=lambda real, ids, new, kept: real(ids, new, []) if new else None),
        vector_law.test_a_kept_chunk_keeps_its_vector_and_is_found_by_its_new_title,
    ),
    "forgets its token": (
        writer(checkpoint=lambda real, token: real(None)),
        vector_law.test_the_token_is_what_was_last_checkpointed,
    ),
    "gives the worst first": (reader(search=worst_first), vector_law.test_dense_scores_are_the_exact_cosine),
    "does not see titles": (
        reader(search=lambda real, text, limit: []),
        vector_law.test_title_and_headings_are_found_too,
    ),
    "ignores a filter": (
        reader(search=lambda real, where=None, **how: real(**how)),
        lambda store: vector_law.test_filters(store, Where(kind=Kind.POST), lambda chunk: chunk.kind == Kind.POST),
    ),
    "counts without its filter": (
        reader(count=lambda real, where=None: real()),
        vector_law.test_a_chunk_without_a_date_is_in_no_span_of_dates,
    ),
    "answers only the first of many": (
        reader(search_many=lambda real, searches, **how: real(searches[:1], **how) + [[] for _ in searches[1:]]),
        vector_law.test_many_searches_at_once_are_each_search_alone,
    ),
    "does not weigh": (
        reader(
            search_many=lambda real, searches, **how: real(
                [one.model_copy(update={"dense_weight": 1.0, "bm25_weight": 1.0}) for one in searches], **how
            )
        ),
        vector_law.test_weights_decide_which_of_the_two_lists_counts_more,
    ),
    "takes a retrained embedder for the same": (
        lambda store: Planted(store, reader=lambda real, spec=None: real()),
        lambda store: vector_law.test_another_spec_is_refused_by_reader_and_writer(store, RETRAINED),
    ),
    "rebuilds on top of what is there": (
        lambda store: Planted(store, writer=lambda real, spec, rebuild=False: real(spec)),
        vector_law.test_a_rebuild_starts_empty_beside_the_live_index_and_swaps,
    ),
    "samples in any order": (
        reader(sample=worst_first),
        vector_law.test_a_sample_is_every_chunk_ordered_by_id,
    ),
    "erases nothing": (
        lambda store: Planted(store, erase=lambda real, author_id: 0),
        vector_law.test_erasing_an_author_leaves_the_others_and_the_token,
    ),
}


@pytest.mark.parametrize("fault", VECTOR_FAULTS)
@pytest.mark.parametrize("kind", STORES)
def test_a_vector_store_that(kind, fault, tmp_path):
    plant, law = VECTOR_FAULTS[fault]
    with opened_store(kind, tmp_path) as store, turns_red():
        law(plant(store))


@pytest.mark.parametrize(
    ("law", "faults"),
    [
        (vector_law.test_both_adapters_give_the_same_hits_in_the_same_order, {"search": worst_first}),
        (vector_law.test_both_adapters_weigh_alike, {"search_many": each_worst_first}),
    ],
    ids=["ranks", "weighs"],
)
@pytest.mark.parametrize("kind", QDRANT)
def test_one_of_two_vector_stores_that_differently(kind, law, faults, tmp_path):
    with opened_store("edge", tmp_path) as edge, opened_store(kind, tmp_path) as other, turns_red():
        law((edge, reader(**faults)(other)))


# --- the warehouse and its ledger ---


WAREHOUSE_FAULTS: dict[str, tuple[Fault, Law]] = {
    "loses a document": (
        lambda warehouse: Planted(warehouse, put=lambda real, documents: real(list(documents)[:-1])),
        warehouse_law.test_documents_come_by_id_and_by_what_was_asked,
    ),
    "loses NUL": (
        lambda warehouse: Planted(
            warehouse, get=lambda real, i: real(i).model_copy(update={"body": real(i).body.replace("\0", "")})
        ),
        lambda warehouse: warehouse_law.test_any_text_comes_back_exactly(warehouse, "NUL \0 inside"),
    ),
    "gives ids in another order": (
        lambda warehouse: Planted(warehouse, ids=worst_first),
        warehouse_law.test_more_documents_than_a_page_are_all_read,
    ),
    "writes a revision for nothing": (
        lambda warehouse: Planted(
            warehouse,
            put=lambda real, documents: real(
                one.model_copy(update={"title": str(datetime.now())}) for one in documents
            ),
        ),
        warehouse_law.test_an_unchanged_document_makes_no_change_event,
    ),
    "ignores the token": (
        lambda warehouse: Planted(warehouse, changes=lambda real, since: real(None)),
        warehouse_law.test_inserts_edits_and_deletes_follow_the_token,
    ),
    "loses the last change": (
        lambda warehouse: Planted(warehouse, changes=lambda real, since: iter(list(real(since))[:-1])),
        warehouse_law.test_the_feed_begins_with_everything_there_is,
    ),
    "erases nothing": (
        lambda warehouse: Planted(warehouse, erase=lambda real, subject: Erased(2)),
        warehouse_law.test_erasing_an_author_leaves_the_others_and_tells_the_feed,
    ),
}
LEDGER_FAULTS: dict[str, tuple[Fault, Law]] = {
    "loses an entry": (
        lambda ledger: Planted(ledger, record=lambda real, entries: real(list(entries)[:-1])),
        ledger_law.test_more_entries_than_a_page_are_all_read,
    ),
    "keeps the first entry of a link": (
        lambda ledger: Planted(
            ledger, record=lambda real, entries: real([one for one in entries if ledger.entry(one.link) is None])
        ),
        ledger_law.test_a_link_has_one_entry_and_the_last_one_counts,
    ),
    "ignores what was asked": (
        lambda ledger: Planted(ledger, entries=lambda real, **where: real()),
        ledger_law.test_entries_come_by_link_and_by_what_was_asked,
    ),
    "erases somebody else": (
        lambda ledger: Planted(ledger, erase=lambda real, subject: real(DataSubject(name="Bob"))),
        ledger_law.test_erasing_an_author_leaves_the_others,
    ),
    "forgets an unfinished run": (
        lambda ledger: Planted(ledger, begin=lambda real, author_id, fingerprint: datetime.now(UTC)),
        ledger_law.test_a_run_with_another_config_forgets_the_unfinished_one,
    ),
}


@pytest.mark.parametrize("fault", WAREHOUSE_FAULTS)
def test_a_warehouse_that(warehouse, fault):
    plant, law = WAREHOUSE_FAULTS[fault]
    with turns_red():
        law(plant(warehouse))


@pytest.mark.parametrize("fault", LEDGER_FAULTS)
def test_a_ledger_that(ledger, fault):
    plant, law = LEDGER_FAULTS[fault]
    with turns_red():
        law(plant(ledger))
