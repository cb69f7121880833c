"""The incremental build over a real warehouse and a real index."""

import pytest

from llm_engineering.domain.chunks import ChunkingSpec, IndexSpec, Where
from llm_engineering.domain.documents import Author, Document, Kind
from llm_engineering.domain.errors import EmbeddingMismatch
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

DEFAULTS = FeatureConfig()


class CountingEmbedder(HashingEmbedder):
    """Remembers what it was asked to embed."""

    def __init__(self, size=32):
        super().__init__(size)
        self.texts, self.counted = [], 0

    def embed(self, texts):
        self.texts += texts
        return super().embed(texts)

    def count_tokens(self, texts):
        self.counted += len(texts)
        return super().count_tokens(texts)


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.warehouse, _ = open_sqlite(folder / "warehouse.db")
        self.vectors = EdgeVectorStore(folder / "vectors")
        self.embedder = CountingEmbedder()

    def put(self, **bodies):
        self.warehouse.put([document(name, body) for name, body in bodies.items()])

    def build(self, config=DEFAULTS, **more):
        given = {"warehouse": self.warehouse, "embedder": self.embedder, "vectors": self.vectors, "config": config}
        return build_features(**{**given, **more})

    def texts(self, spec=None, **where):
        """What is searchable, as (document id, text)."""
        reader = self.vectors.reader(spec)
        try:
            vector = HashingEmbedder(32).embed(["anything"])[0]
            hits = reader.search(vector=vector, where=Where(**where), limit=10_000)
            return sorted((hit.chunk.document_id, hit.chunk.start, hit.chunk.text) for hit in hits)
        finally:
            reader.close()

    def info(self):
        reader = self.vectors.reader()
        try:
            return reader.info()
        finally:
            reader.close()


def document(name, body, **fields):
    link = f"https://a.example/{name}"
    given = {"link": link, "url": link, "crawled_from": link, "source": "web_article", "kind": Kind.ARTICLE}
    return Document(**{**given, "author": Author(name="Ada"), "media_type": "text/markdown", "body": body, **fields})


def article(about, parts=3):
    return "".join(f"# {about} {i}\n\n" + f"Some words on {about} number {i}. " * 30 + "\n\n" for i in range(parts))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.warehouse.close()


def test_what_the_warehouse_holds_becomes_searchable(bench):
    bodies = {"one": article("apples"), "two": article("pears")}
    bench.put(**bodies)
    report = bench.build()
    assert (report.documents_seen, report.documents_indexed, report.empty) == (2, 2, 0)
    assert report.chunks_total == report.chunks_embedded == len(bench.texts()) == len(bench.embedder.texts)
    assert report.index_version == bench.info().version
    for name, body in bodies.items():
        found = bench.texts(document_id=document(name, body).id)
        assert "".join(text for _, _, text in found) == body.strip("\n")
    assert report.characters == sum(len(body.strip("\n")) for body in bodies.values())
    assert report.tokens > 0
    assert min(report.seconds_cleaning, report.seconds_splitting, report.seconds_embedding, report.seconds_loading) > 0


def test_an_unchanged_run_embeds_counts_and_writes_nothing(bench):
    bench.put(one=article("apples"), two=article("pears"))
    bench.build()
    before, version = bench.texts(), bench.info().version
    bench.embedder = CountingEmbedder()
    report = bench.build()
    assert (bench.embedder.texts, bench.embedder.counted) == ([], 0)
    assert (report.documents_seen, report.chunks_embedded, report.chunks_removed) == (0, 0, 0)
    assert report.chunks_total == len(before)
    assert bench.info().version == version
    assert bench.texts() == before


def test_an_edited_page_leaves_no_stale_chunk_and_embeds_only_what_is_new(bench):
    bench.put(one=article("apples", parts=6), two=article("pears"))
    bench.build()
    bench.embedder = CountingEmbedder()
    edited = article("apples", parts=6).replace("apples 3", "cherries", 1).replace("apples number 3", "cherries")
    bench.put(one=edited)
    report = bench.build()
    found = bench.texts(document_id=document("one", "x").id)
    assert "".join(text for _, _, text in found) == edited.strip("\n")
    assert all("cherries" in text for text in bench.embedder.texts)
    assert (report.documents_seen, report.documents_indexed) == (1, 1)
    assert report.chunks_reused > report.chunks_embedded == len(bench.embedder.texts) > 0
    assert report.chunks_removed > 0


def test_a_chunk_that_was_kept_follows_its_document(bench):
    bench.put(one=article("apples"))
    bench.build()
    bench.embedder = CountingEmbedder()
    bench.warehouse.put([document("one", article("apples"), title="A better title")])
    report = bench.build()
    assert report.chunks_embedded == 0
    hits = bench.vectors.reader().search(text="apples", limit=100)
    assert {hit.chunk.title for hit in hits} == {"A better title"}
    assert len({hit.chunk.content_hash for hit in hits}) == 1


def test_a_removed_page_leaves_no_chunk(bench):
    bench.put(one=article("apples"), two=article("pears"))
    bench.build()
    bench.warehouse.delete([document("one", "x").id])
    report = bench.build()
    assert report.documents_removed == 1
    assert report.chunks_removed == 3
    assert {found for found, _, _ in bench.texts()} == {document("two", "x").id}


def test_an_edit_that_was_taken_back_costs_nothing(bench):
    bench.put(one=article("apples"))
    bench.build()
    bench.put(one=article("pears"))
    bench.put(one=article("apples"))
    bench.embedder = CountingEmbedder()
    report = bench.build()
    assert (report.documents_unchanged, bench.embedder.texts) == (1, [])
    assert bench.info().token == list(bench.warehouse.changes(None))[-1].token


class Twice:
    """A change feed that tells of each document more than once, as a server's may."""

    def __init__(self, warehouse):
        self._warehouse = warehouse

    def changes(self, since):
        for change in self._warehouse.changes(since):
            if change.document:
                yield change._replace(document=change.document.model_copy(update={"body": "An older state."}))
            yield change


def test_of_a_document_that_changed_twice_the_last_state_counts(bench):
    bench.put(one=article("apples"), two=article("pears"))
    bench.build(warehouse=Twice(bench.warehouse))
    assert not any("older" in text for _, _, text in bench.texts())
    assert not any("older" in text for text in bench.embedder.texts)


@pytest.mark.parametrize("buffer_chunks", [1, 1000])
def test_the_buffer_changes_nothing_but_the_memory(bench, buffer_chunks):
    bench.put(**{f"page{i}": article(f"topic{i}", parts=1 + i % 4) for i in range(10)})
    report = bench.build(FeatureConfig(buffer_chunks=buffer_chunks))
    assert len(bench.texts()) == report.chunks_total == sum(1 + i % 4 for i in range(10))


def test_progress_is_told_and_ends_at_the_report(bench):
    bench.put(**{f"page{i}": article(f"topic{i}") for i in range(8)})
    told = []
    report = bench.build(FeatureConfig(buffer_chunks=6), on_progress=told.append)
    embedded = [event.chunks_embedded for event in told]
    assert embedded == sorted(embedded)
    assert embedded[0] < embedded[-1] == report.chunks_embedded


def test_a_stopped_run_is_red_publishes_nothing_and_goes_on_from_there(bench):
    bench.put(**{f"page{i:02}": article(f"topic{i}") for i in range(40)})
    stopping = []
    report = bench.build(
        FeatureConfig(buffer_chunks=6),
        on_progress=lambda event: stopping.append(1) if event.documents_indexed >= 10 else None,
        stop=lambda: bool(stopping),
    )
    assert "run again" in report.red
    assert bench.info() is None
    done = len(bench.embedder.texts)
    bench.embedder = CountingEmbedder()
    again = bench.build()
    assert again.red == ""
    assert len(bench.embedder.texts) == 120 - done
    assert again.chunks_total == len(bench.texts()) == 120


def test_an_empty_warehouse_gives_an_empty_index(bench):
    report = bench.build()
    assert (report.documents_seen, report.chunks_total, bench.texts()) == (0, 0, [])


def test_another_embedder_or_chunking_asks_for_a_rebuild_and_a_rebuild_swaps(bench):
    bench.put(one=article("apples"))
    bench.build()
    other = FeatureConfig(chunking=ChunkingSpec(max_tokens=64))
    for change in ({"embedder": CountingEmbedder(64)}, {"config": other}):
        with pytest.raises(EmbeddingMismatch, match="rebuild"):
            bench.build(**change)
        assert len(bench.texts()) == 3  # what was published still answers
    report = bench.build(other, rebuild=True)
    assert report.rebuilt
    assert len(bench.texts()) == report.chunks_total > 3
    assert bench.info().spec == IndexSpec(embedding=bench.embedder.spec, chunking=other.chunking)


def test_searching_goes_on_while_a_rebuild_is_under_way(bench):
    bench.put(one=article("apples"), two=article("pears"))
    bench.build()
    before = bench.texts()
    seen = []
    report = bench.build(FeatureConfig(buffer_chunks=1), rebuild=True, on_progress=lambda _: seen.append(bench.texts()))
    assert len(seen) > 3
    assert all(texts == before for texts in seen)
    assert bench.texts() == before
    assert report.index_version != "" and report.rebuilt  # noqa: PT018


def test_an_expired_feed_compares_everything_and_embeds_nothing_again(bench, tmp_path):
    bench.put(one=article("apples"), two=article("pears"))
    bench.build()
    bench.warehouse.close()
    (tmp_path / "restored").mkdir()
    bench.warehouse, _ = open_sqlite(tmp_path / "restored" / "warehouse.db")  # another feed, without the tombstone
    bench.put(two=article("pears"), three=article("plums"))
    bench.embedder = CountingEmbedder()
    report = bench.build()
    assert report.rescanned
    assert (report.documents_unchanged, report.documents_indexed, report.documents_removed) == (1, 1, 1)
    assert all("plums" in text for text in bench.embedder.texts)
    assert {found for found, _, _ in bench.texts()} == {document(name, "x").id for name in ("two", "three")}
    assert not bench.build().rescanned
