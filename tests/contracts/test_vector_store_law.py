"""What every vector store promises: the embedded one, Qdrant in memory, and a real server when QDRANT_URL names one."""

import os
from datetime import UTC, datetime
from math import sqrt

import pytest
from loguru import logger
from passages import (
    DAYS,
    OTHER,
    RECUT,
    RETRAINED,
    SIZE,
    SPEC,
    UNRECORDED,
    VECTORS,
    embedded,
    everything,
    fill,
    name,
    passage,
)
from vector_stores import QDRANT, STORES, opened_store

from llm_engineering.domain.chunks import EmbeddedChunk, Facets, Search, Where
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import EmbeddingMismatch, StoreLocked
from llm_engineering.domain.ids import stable_id

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    with opened_store(request.param, tmp_path) as store:
        yield store


@pytest.fixture(params=QDRANT)
def both(request, tmp_path):
    """The embedded store and another adapter, never the same one twice."""
    with opened_store("edge", tmp_path) as edge, opened_store(request.param, tmp_path) as other:
        yield edge, other


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / sqrt(sum(x * x for x in a) * sum(y * y for y in b))


# --- asking -------------------------------------------------------------------------------------------------


def test_dense_scores_are_the_exact_cosine(store):
    fill(store, [embedded(i) for i in range(60)])
    hits = store.reader(SPEC).search(vector=VECTORS[5], limit=5)
    nearest = sorted(range(60), key=lambda i: -cosine(VECTORS[5], VECTORS[i]))[:5]
    assert [hit.chunk.id for hit in hits] == [passage(i).id for i in nearest]
    assert [hit.score for hit in hits] == pytest.approx([cosine(VECTORS[5], VECTORS[i]) for i in nearest], abs=1e-4)


def test_a_chunk_comes_back_as_it_was_given(store):
    chunk = passage(3, text="naïve — 漢字 🦊 'quoted' \"text\"\n\tand <tags>", headings=())
    fill(store, [EmbeddedChunk(chunk, VECTORS[3])])
    assert store.reader(SPEC).search(vector=VECTORS[3], limit=1)[0].chunk == chunk


def test_a_rare_word_beats_a_common_one(store):
    fill(store, [embedded(i) for i in range(60)])
    hits = store.reader(SPEC).search(text=f"{name(42)} things", limit=3)
    assert hits[0].chunk.id == passage(42).id
    assert hits[0].score > 2 * hits[1].score


def test_title_and_headings_are_found_too(store):
    fill(store, [embedded(i) for i in range(8)] + [embedded(9, document=9, title="Zeppelins over Lakehurst")])
    hits = store.reader(SPEC).search(text="zeppelin", limit=3)
    assert [hit.chunk.title for hit in hits] == ["Zeppelins over Lakehurst"]


def test_fusion_rewards_what_both_ways_found(store):
    fill(store, [embedded(i) for i in range(60)])
    hits = store.reader(SPEC).search(vector=VECTORS[42], text=name(42), limit=5)
    assert hits[0].chunk.id == passage(42).id
    assert hits[0].score == pytest.approx(2 / 61, abs=2e-3)
    assert len(hits) == 5


def test_a_question_without_a_word_finds_nothing_by_words(store):
    fill(store, [embedded(i) for i in range(8)])
    reader = store.reader(SPEC)
    assert reader.search(text="?! …", limit=3) == []
    assert len(reader.search(vector=VECTORS[1], text="?! …", limit=3)) == 3


@pytest.mark.parametrize("question", [{"limit": 3}, {"text": "red", "limit": 0}])
def test_a_question_that_cannot_be_answered_is_refused(store, question):
    fill(store, [embedded(1)])
    with pytest.raises(ValueError, match=r"limit|vector"):
        store.reader(SPEC).search(**question)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where(), lambda c: True),
        (Where(kind=Kind.POST), lambda c: c.kind == Kind.POST),
        (Where(kind=(Kind.POST, Kind.REPOSITORY)), lambda c: c.kind == Kind.POST),
        (
            Where(source="medium", author_id=Author(name="Author 1").id),
            lambda c: c.title in ("Page 1", "Page 7", "Page 13"),
        ),
        (
            Where(author_id=(Author(name="author 0").id, Author(name="Author  2").id)),
            lambda c: c.author_name in ("Author 0", "Author 2"),
        ),
        (Where(document_id=passage(8).document_id), lambda c: c.title == "Page 2"),
        (Where(published_from=DAYS[3]), lambda c: c.published_at >= DAYS[3]),
        (Where(published_to=DAYS[3]), lambda c: c.published_at < DAYS[3]),
        (Where(published_from=DAYS[3], published_to=DAYS[5], source="medium"), lambda c: c.published_at == DAYS[3]),
        (Where(source="nowhere"), lambda c: False),
    ],
)
def test_filters(store, where, expected):
    chunks = [embedded(i) for i in range(60)]
    fill(store, chunks)
    wanted = {c.chunk.id for c in chunks if expected(c.chunk)}
    reader = store.reader(SPEC)
    assert reader.count(where) == len(wanted)
    for question in ({"vector": VECTORS[0]}, {"vector": VECTORS[0], "text": "things"}):
        assert {hit.chunk.id for hit in reader.search(**question, where=where, limit=60)} == wanted


def test_a_chunk_without_a_date_is_in_no_span_of_dates(store):
    fill(store, [embedded(0), embedded(1, document=70)])
    assert store.reader(SPEC).count(Where(published_from=datetime(1990, 1, 1, tzinfo=UTC))) == 1


def test_both_adapters_give_the_same_hits_in_the_same_order(both):
    chunks = [embedded(i) for i in range(80)]
    readers = []
    assert type(both[0]) is not type(both[1])
    for store in both:
        fill(store, chunks)
        readers.append(store.reader(SPEC))
    for i in (0, 7, 33, 79):
        for question in (
            {"vector": VECTORS[i]},
            {"text": f"{name(i)} red or white pages"},
            {"vector": VECTORS[i], "text": f"{name((i + 40) % 80)} of blue things"},
            {"vector": VECTORS[i], "text": "green", "where": Where(kind=Kind.POST)},
        ):
            one, other = (reader.search(**question, limit=10) for reader in readers)
            assert [hit.chunk for hit in one] == [hit.chunk for hit in other], question
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], rel=1e-3)


# --- nothing there, and others' ------------------------------------------------------------------------------


def test_before_anything_was_published(store):
    assert store.reader().info() is None
    assert store.reader().search(text="red", limit=3) == []
    assert store.reader().count() == 0
    assert store.erase("nobody") == 0
    with pytest.raises(EmbeddingMismatch, match="poe run-features"):
        store.reader(SPEC).search(text="red", limit=3)


def test_an_empty_index_can_be_published(store):
    with store.writer(SPEC) as writer:
        assert writer.token is None
        assert writer.document_ids() == set()
        writer.checkpoint("t0")
        assert writer.publish().chunks == 0
    info = store.reader(SPEC).info()
    assert (info.spec, info.token, info.chunks) == (SPEC, "t0", 0)
    assert store.reader(SPEC).search(text="red", limit=3) == []


@pytest.mark.parametrize("other", [OTHER, RECUT, RETRAINED])
def test_another_spec_is_refused_by_reader_and_writer(store, other):
    fill(store, [embedded(1)])
    with pytest.raises(EmbeddingMismatch, match=r"(?s)hashing \(8 .*hashing.*--rebuild"):
        store.reader(other).search(text="red", limit=1)
    with pytest.raises(EmbeddingMismatch, match="--rebuild"), store.writer(other):
        pass
    assert store.reader().info().spec == SPEC


def test_an_index_of_before_revisions_is_read_and_wants_a_rebuild_once(store):
    """It cannot be told whether the model was retrained since: nothing of another revision is put beside it."""
    fill(store, [embedded(i) for i in range(4)], spec=UNRECORDED)
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING", format="{message}")
    try:
        for reader in (store.reader(SPEC), store.reader(SPEC), store.reader()):
            assert reader.search(vector=VECTORS[1], limit=1)[0].chunk == passage(1)
            assert reader.count() == 4
    finally:
        logger.remove(sink)
    [warning] = warnings
    assert "before the revision of its embedder was recorded" in warning
    assert "--rebuild" in warning
    with pytest.raises(EmbeddingMismatch, match=r"nobody can tell .* --rebuild` once"), store.writer(SPEC):
        pass
    fill(store, [embedded(i) for i in range(5)], rebuild=True)
    assert store.reader(SPEC).count() == 5


def test_a_vector_of_another_size_is_refused(store):
    fill(store, [embedded(1)])
    with pytest.raises(EmbeddingMismatch, match=r"16 numbers.*8"):
        store.reader().search(vector=[0.1] * 16, limit=1)


# --- replacing -----------------------------------------------------------------------------------------------


def test_writing_twice_is_writing_once(store):
    chunks = [embedded(i) for i in range(8)]
    fill(store, chunks)
    info = fill(store, chunks, token="t2")
    assert (info.chunks, info.token) == (8, "t2")
    assert set(everything(store)) == {c.chunk.id for c in chunks}


def test_an_edited_page_leaves_no_stale_chunk_and_touches_no_other(store):
    fill(store, [embedded(i) for i in range(12)])
    fresh = embedded(40, document=1, version="v2")
    kept = passage(5, version="v2", start=100, title="Page 1, edited")
    with store.writer(SPEC) as writer:
        writer.replace([kept.document_id], [fresh], [kept])
        writer.publish()
    now = everything(store)
    assert {c.id for c in now.values() if c.document_id == kept.document_id} == {fresh.chunk.id, kept.id}
    assert len(now) == 10
    assert now[kept.id] == kept
    assert now[passage(0).id] == passage(0)


def test_a_kept_chunk_keeps_its_vector_and_is_found_by_its_new_title(store):
    fill(store, [embedded(i) for i in range(12)])
    kept = passage(5, version="v2", title="Zeppelins")
    with store.writer(SPEC) as writer:
        writer.replace([kept.document_id], [], [kept])
        writer.publish()
    reader = store.reader(SPEC)
    [hit] = reader.search(vector=VECTORS[5], where=Where(document_id=kept.document_id), limit=5)
    assert hit.chunk == kept
    assert hit.score == pytest.approx(1, abs=1e-4)
    assert [h.chunk.id for h in reader.search(text="zeppelins", limit=5)] == [kept.id]


def test_a_removed_page_leaves_no_chunk(store):
    fill(store, [embedded(i) for i in range(12)])
    gone = passage(4).document_id
    with store.writer(SPEC) as writer:
        writer.replace([gone, stable_id("document", "never seen")], [], [])
        assert writer.chunk_ids([gone]) == {}
        writer.publish()
    reader = store.reader(SPEC)
    assert reader.count() == 8
    assert reader.count(Where(document_id=gone)) == 0
    assert reader.search(text=name(5), limit=20) == []


def test_the_writer_knows_what_is_stored(store):
    fill(store, [embedded(i) for i in range(12)])
    one, two, never = passage(0).document_id, passage(4).document_id, stable_id("document", "never seen")
    with store.writer(SPEC) as writer:
        assert writer.hashes([one, never]) == {one: "v1"}
        assert writer.chunk_ids([two, never]) == {two: {passage(i).id for i in range(4, 8)}}
        assert writer.document_ids() == {passage(i).document_id for i in (0, 4, 8)}
        writer.replace([one], [embedded(0, version="v2")], [])
        assert writer.hashes([one, two]) == {one: "v2", two: "v1"}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (EmbeddedChunk(passage(1), [1.0]), "1 numbers"),
        (EmbeddedChunk(passage(1), [float("nan")] * SIZE), "NaN"),
        (EmbeddedChunk(passage(40), VECTORS[1]), "not being replaced"),
        (EmbeddedChunk(passage(1, window="half a pair \ud83e"), VECTORS[1]), "Unicode"),
    ],
)
def test_a_bad_chunk_is_refused_before_anything_is_written(store, bad, says):
    fill(store, [embedded(i) for i in range(4)])
    before = everything(store)
    with store.writer(SPEC) as writer:
        with pytest.raises(ValueError, match=says):
            writer.replace([passage(1).document_id], [embedded(2, version="v2"), bad], [])
        assert writer.hashes([passage(1).document_id]) == {passage(1).document_id: "v1"}
        writer.publish()
    assert everything(store) == before


def test_a_chunk_cannot_be_kept_that_is_not_there(store):
    fill(store, [embedded(i) for i in range(4)])
    with store.writer(SPEC) as writer, pytest.raises(ValueError, match="not stored"):
        writer.replace([passage(1).document_id], [], [passage(50, document=0)])


# --- publishing ----------------------------------------------------------------------------------------------


def test_the_token_is_what_was_last_checkpointed(store):
    info = fill(store, [embedded(i) for i in range(4)], token="42")
    assert (info.spec, info.token, info.chunks) == (SPEC, "42", 4)
    assert store.reader().info() == info
    with store.writer(SPEC) as writer:
        assert writer.token == "42"


def test_an_unchanged_run_moves_the_token_and_makes_no_new_version(store):
    before = fill(store, [embedded(i) for i in range(4)], token="42")
    with store.writer(SPEC) as writer:
        assert writer.hashes([passage(1).document_id])
        writer.checkpoint("43")
        after = writer.publish()
    assert after == before._replace(token="43")
    assert store.reader().info() == after


def test_a_writer_opened_after_a_stop_goes_on_from_its_checkpoint(store):
    fill(store, [embedded(0)], token="1")
    with store.writer(SPEC) as writer:
        writer.replace([passage(4).document_id], [embedded(i) for i in range(4, 8)], [])
        writer.checkpoint("2")
    with store.writer(SPEC) as writer:
        assert writer.token == "2"
        assert writer.document_ids() == {passage(0).document_id, passage(4).document_id}
        assert writer.publish().chunks == 5


def test_a_rebuild_starts_empty_beside_the_live_index_and_swaps(store):
    fill(store, [embedded(i) for i in range(12)], token="7")
    reader = store.reader(SPEC)
    with store.writer(SPEC, rebuild=True) as writer:
        assert writer.token is None
        assert writer.document_ids() == set()
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("1")
        assert reader.count() == 12
        assert reader.info().token == "7"
        info = writer.publish()
    assert (info.chunks, info.token) == (1, "1")
    assert reader.count() == 1
    assert [hit.chunk.id for hit in reader.search(vector=VECTORS[0], limit=5)] == [passage(40).id]


def test_a_stopped_rebuild_goes_on_and_the_live_index_stays(store):
    fill(store, [embedded(i) for i in range(12)], token="7")
    with store.writer(SPEC, rebuild=True) as writer:
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("1")
    assert store.reader(SPEC).count() == 12
    with store.writer(SPEC, rebuild=True) as writer:
        assert writer.token == "1"
        assert writer.document_ids() == {passage(40).document_id}


def test_a_stopped_rebuild_is_dropped_by_a_rebuild_with_another_spec(store):
    fill(store, [embedded(i) for i in range(4)])
    with store.writer(SPEC, rebuild=True) as writer:
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("1")
    with store.writer(RECUT, rebuild=True) as writer:
        assert writer.token is None
        assert writer.document_ids() == set()


def test_a_rebuild_changes_the_spec(store):
    fill(store, [embedded(i) for i in range(4)])
    fill(store, [embedded(i) for i in range(5)], spec=RECUT, rebuild=True)
    assert store.reader(RECUT).count() == 5
    assert store.reader().info().spec == RECUT
    with pytest.raises(EmbeddingMismatch):
        store.reader(SPEC).search(text="red", limit=1)


def test_a_reader_follows_what_is_published(store):
    fill(store, [embedded(i) for i in range(4)])
    reader = store.reader(SPEC)
    assert reader.search(text=name(40), limit=1) == []
    for step in range(3):
        fill(store, [embedded(40 + 4 * step)])
        assert reader.search(text=name(40 + 4 * step), limit=1)
        assert reader.count() == 5 + step
    reader.close()


def test_there_is_one_writer_at_a_time(store):
    with store.writer(SPEC) as writer:
        writer.replace([passage(0).document_id], [embedded(0)], [])
        with pytest.raises(StoreLocked, match=str(os.getpid())), store.writer(SPEC):
            pass
        with pytest.raises(StoreLocked):
            store.erase("anybody")
        writer.publish()
    with store.writer(SPEC) as writer:
        assert writer.document_ids()


def test_a_writer_that_failed_lets_go(store):
    with pytest.raises(RuntimeError, match="the embedder fell over"), store.writer(SPEC):
        raise RuntimeError("the embedder fell over")
    assert fill(store, [embedded(0)]).chunks == 1


def test_erasing_an_author_leaves_the_others_and_the_token(store):
    fill(store, [embedded(i) for i in range(12)], token="9")
    reader = store.reader(SPEC)
    assert reader.count() == 12
    assert store.erase(Author(name="Author 1").id) == 4
    assert reader.count() == 8
    assert reader.count(Where(author_id=Author(name="Author 1").id)) == 0
    assert reader.search(vector=VECTORS[0], limit=1)[0].chunk == passage(0)
    assert reader.search(vector=VECTORS[0], limit=1)[0].score == pytest.approx(1, abs=1e-4)
    assert reader.search(text=name(5), limit=3) == []
    assert store.reader().info().token == "9"
    assert store.erase(Author(name="Author 1").id) == 0


def test_erasing_reaches_what_is_not_published_yet(store):
    fill(store, [embedded(i) for i in range(4)], token="1")
    with store.writer(SPEC, rebuild=True) as writer:
        writer.replace([passage(4).document_id], [embedded(4)], [])
        writer.checkpoint("2")
    assert store.erase(Author(name="Author 1").id) == 1
    with store.writer(SPEC, rebuild=True) as writer:
        assert passage(4).document_id not in writer.document_ids()


# --- asking many at once, and what there is --------------------------------------------------------------------


def test_many_searches_at_once_are_each_search_alone(store):
    fill(store, [embedded(i) for i in range(60)])
    reader = store.reader(SPEC)
    searches = [
        Search(vector=tuple(VECTORS[5])),
        Search(text=name(42)),
        Search(text="?!"),
        Search(vector=tuple(VECTORS[7]), text=name(9)),
    ]
    only = Where(kind=Kind.ARTICLE)
    together = reader.search_many(searches, where=only, limit=7)
    alone = [reader.search(vector=one.vector, text=one.text, where=only, limit=7) for one in searches]
    assert [[hit.chunk for hit in hits] for hits in together] == [[hit.chunk for hit in hits] for hits in alone]
    assert together[2] == []
    assert reader.search_many([], limit=3) == []


def test_weights_decide_which_of_the_two_lists_counts_more(store):
    fill(store, [embedded(i) for i in range(60)])
    reader = store.reader(SPEC)
    by_meaning, by_words = passage(5).id, passage(42).id
    vector, text = tuple(VECTORS[5]), name(42)
    searches = (Search(vector=vector, text=text, bm25_weight=0.1), Search(vector=vector, text=text, dense_weight=0.1))
    meaning, words = reader.search_many(searches, limit=2)
    assert (meaning[0].chunk.id, words[0].chunk.id) == (by_meaning, by_words)


def test_both_adapters_weigh_alike(both):
    chunks = [embedded(i) for i in range(80)]
    search = Search(vector=tuple(VECTORS[7]), text=f"{name(33)} of blue things", dense_weight=1.0, bm25_weight=0.4)
    found = []
    for store in both:
        fill(store, chunks)
        [hits] = store.reader(SPEC).search_many([search], limit=10)
        found.append([(hit.chunk.id, pytest.approx(hit.score, rel=1e-3)) for hit in hits])
    assert found[0] == [(chunk_id, score.expected) for chunk_id, score in found[1]]


def test_one_bad_search_refuses_the_batch(store):
    fill(store, [embedded(1)])
    reader = store.reader(SPEC)
    with pytest.raises(ValueError, match="vector"):
        reader.search_many([Search(text="red"), Search()], limit=3)
    with pytest.raises(ValueError, match="limit"):
        reader.search_many([Search(text="red")], limit=0)
    with pytest.raises(EmbeddingMismatch, match=r"16 numbers.*8"):
        reader.search_many([Search(text="red"), Search(vector=(0.1,) * 16)], limit=3)


def test_facets_say_what_is_there(store):
    fill(store, [embedded(i) for i in range(60)] + [embedded(61, document=70)])
    facets = store.reader(SPEC).facets()
    assert facets.authors == {Author(name=f"Author {i}").id: f"Author {i}" for i in range(3)}
    assert facets.kinds == {Kind.ARTICLE: 33, Kind.POST: 28}
    assert facets.sources == {"medium": 28, "web_article": 33}
    assert (facets.published_from, facets.published_to) == (DAYS[0], DAYS[14])


def test_facets_are_those_of_what_is_published_now(store):
    fill(store, [embedded(0)], token="1")
    reader = store.reader(SPEC)
    assert list(reader.facets().authors.values()) == ["Author 0"]
    fill(store, [embedded(4)], token="2")
    assert sorted(reader.facets().authors.values()) == ["Author 0", "Author 1"]


def test_a_sample_is_every_chunk_ordered_by_id(store):
    chunks = [embedded(i) for i in range(60)]
    fill(store, chunks)
    reader = store.reader(SPEC)
    assert list(reader.sample()) == sorted((c.chunk for c in chunks), key=lambda chunk: chunk.id)
    posts = [c.chunk for c in chunks if c.chunk.kind == Kind.POST]
    assert list(reader.sample(Where(kind=Kind.POST))) == sorted(posts, key=lambda chunk: chunk.id)


def test_an_empty_index_has_no_facets_and_no_sample(store):
    assert store.reader().facets() == Facets()
    assert list(store.reader().sample()) == []
    fill(store, [])
    assert store.reader(SPEC).facets() == Facets()
    assert store.reader(SPEC).search_many([Search(text="red")], limit=3) == [[]]


def test_a_sample_begun_before_a_publish_ends_well(store):
    fill(store, [embedded(i) for i in range(60)])
    reader = store.reader(SPEC)
    sample = reader.sample()
    first = next(sample)
    fill(store, [embedded(61, document=70)], token="2")
    assert reader.count() == 61
    assert len({first.id, *(chunk.id for chunk in sample)}) >= 60
