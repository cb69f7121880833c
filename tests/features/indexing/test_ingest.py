"""The incremental build over a real warehouse and a real index."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from feature_build import FeatureBuild, document

from llm_engineering.domain.chunks import ChunkingSpec, IndexSpec
from llm_engineering.domain.errors import EmbeddingMismatch
from llm_engineering.domain.ports import Change
from llm_engineering.features.config import FeatureConfig
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.warehouse.sqlite import SqliteWarehouse
from llm_engineering.infrastructure.warehouse.sqlite_file import SqliteFile


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


def article(about, parts=3):
    return "".join(f"# {about} {i}\n\n" + f"Some words on {about} number {i}. " * 30 + "\n\n" for i in range(parts))


@pytest.fixture
def features(tmp_path: Path) -> Generator[FeatureBuild]:
    features = FeatureBuild(tmp_path)
    yield features
    features.close()


@pytest.fixture
def embedder(features: FeatureBuild) -> CountingEmbedder:
    """Of `features`."""
    features.embedder = embedder = CountingEmbedder()
    return embedder


def test_what_the_warehouse_holds_becomes_searchable(features, embedder):
    bodies = {"one": article("apples"), "two": article("pears")}
    features.put(**bodies)
    report = features.run()
    assert (report.documents_seen, report.documents_indexed, report.empty) == (2, 2, 0)
    assert report.chunks_total == report.chunks_embedded == len(features.chunks()) == len(embedder.texts)
    assert report.index_version == features.info().version
    for name, body in bodies.items():
        found = features.chunks(document_id=document(name, body).id)
        assert "".join(text for _, _, text in found) == body.strip("\n")
    assert report.characters == sum(len(body.strip("\n")) for body in bodies.values())
    assert report.tokens > 0
    assert min(report.seconds_cleaning, report.seconds_splitting, report.seconds_embedding, report.seconds_loading) > 0


def test_an_unchanged_run_embeds_counts_and_writes_nothing(features):
    features.put(one=article("apples"), two=article("pears"))
    features.run()
    before, version = features.chunks(), features.info().version
    features.embedder = embedder = CountingEmbedder()
    report = features.run()
    assert (embedder.texts, embedder.counted) == ([], 0)
    assert (report.documents_seen, report.chunks_embedded, report.chunks_removed) == (0, 0, 0)
    assert report.chunks_total == len(before)
    assert features.info().version == version
    assert features.chunks() == before


def test_an_edited_page_leaves_no_stale_chunk_and_embeds_only_what_is_new(features):
    features.put(one=article("apples", parts=6), two=article("pears"))
    features.run()
    features.embedder = embedder = CountingEmbedder()
    edited = article("apples", parts=6).replace("apples 3", "cherries", 1).replace("apples number 3", "cherries")
    features.put(one=edited)
    report = features.run()
    found = features.chunks(document_id=document("one", "x").id)
    assert "".join(text for _, _, text in found) == edited.strip("\n")
    assert all("cherries" in text for text in embedder.texts)
    assert (report.documents_seen, report.documents_indexed) == (1, 1)
    assert report.chunks_reused > report.chunks_embedded == len(embedder.texts) > 0
    assert report.chunks_removed > 0


def test_a_chunk_that_was_kept_follows_its_document(features):
    features.put(one=article("apples"))
    features.run()
    features.warehouse.put([document("one", article("apples"), title="A better title")])
    report = features.run()
    assert report.chunks_embedded == 0
    hits = features.vectors.reader().search(text="apples", limit=100)
    assert {hit.chunk.title for hit in hits} == {"A better title"}
    assert len({hit.chunk.content_hash for hit in hits}) == 1


def test_a_removed_page_leaves_no_chunk(features):
    features.put(one=article("apples"), two=article("pears"))
    features.run()
    features.warehouse.delete([document("one", "x").id])
    report = features.run()
    assert report.documents_removed == 1
    assert report.chunks_removed == 3
    assert {found for found, _, _ in features.chunks()} == {document("two", "x").id}


def test_an_edit_that_was_taken_back_costs_nothing(features):
    features.put(one=article("apples"))
    features.run()
    features.put(one=article("pears"))
    features.put(one=article("apples"))
    features.embedder = embedder = CountingEmbedder()
    report = features.run()
    assert (report.documents_unchanged, embedder.texts) == (1, [])
    assert features.info().token == list(features.warehouse.changes(None))[-1].token


class RepeatingWarehouse(SqliteWarehouse):
    """Its change feed names each document more than once, as a server's may."""

    def changes(self, since: str | None) -> Iterator[Change]:
        for change in super().changes(since):
            if change.document:
                yield change._replace(document=change.document.model_copy(update={"body": "An older state."}))
            yield change


def test_of_a_document_that_changed_twice_the_last_state_counts(features, embedder):
    features.put(one=article("apples"), two=article("pears"))
    repeating = RepeatingWarehouse(SqliteFile(features.folder / "warehouse.db", timeout=5))
    features.run(warehouse=repeating)
    repeating.close()
    assert not any("older" in text for _, _, text in features.chunks())
    assert not any("older" in text for text in embedder.texts)


@pytest.mark.parametrize("buffer_chunks", [1, 1000])
def test_the_buffer_changes_nothing_but_the_memory(features, buffer_chunks):
    features.put(**{f"page{i}": article(f"topic{i}", parts=1 + i % 4) for i in range(10)})
    report = features.run(FeatureConfig(buffer_chunks=buffer_chunks))
    assert len(features.chunks()) == report.chunks_total == sum(1 + i % 4 for i in range(10))


def test_progress_is_reported_as_the_report_it_would_end_with(features):
    features.put(**{f"page{i}": article(f"topic{i}") for i in range(8)})
    progress = []
    report = features.run(FeatureConfig(buffer_chunks=6), on_progress=progress.append)
    embedded = [event.chunks_embedded for event in progress]
    assert embedded == sorted(embedded)
    assert embedded[0] < embedded[-1] == report.chunks_embedded


def test_a_stopped_run_is_red_publishes_nothing_and_goes_on_from_there(features, embedder):
    features.put(**{f"page{i:02}": article(f"topic{i}") for i in range(40)})
    stopping = []
    report = features.run(
        FeatureConfig(buffer_chunks=6),
        on_progress=lambda event: stopping.append(1) if event.documents_indexed >= 10 else None,
        stop=lambda: bool(stopping),
    )
    assert "run again" in report.red
    assert features.info() is None
    done = len(embedder.texts)
    features.embedder = embedder = CountingEmbedder()
    again = features.run()
    assert again.red == ""
    assert len(embedder.texts) == 120 - done
    assert again.chunks_total == len(features.chunks()) == 120


def test_an_empty_warehouse_gives_an_empty_index(features):
    report = features.run()
    assert (report.documents_seen, report.chunks_total, features.chunks()) == (0, 0, [])


def test_another_embedder_or_chunking_asks_for_a_rebuild_and_a_rebuild_swaps(features):
    features.put(one=article("apples"))
    features.run()
    other = FeatureConfig(chunking=ChunkingSpec(max_tokens=64))
    with pytest.raises(EmbeddingMismatch, match="rebuild"):
        features.run(other)
    features.embedder = CountingEmbedder(64)
    with pytest.raises(EmbeddingMismatch, match="rebuild"):
        features.run()
    assert len(features.chunks()) == 3  # what was published still answers
    features.embedder = CountingEmbedder(32)
    report = features.run(other, rebuild=True)
    assert report.rebuilt
    assert len(features.chunks()) == report.chunks_total > 3
    info = features.info()
    assert info
    assert info.spec == IndexSpec(embedding=features.embedder.spec, chunking=other.chunking)


def test_searching_goes_on_while_a_rebuild_is_under_way(features):
    features.put(one=article("apples"), two=article("pears"))
    features.run()
    before = features.chunks()
    seen = []
    report = features.run(
        FeatureConfig(buffer_chunks=1), rebuild=True, on_progress=lambda _: seen.append(features.chunks())
    )
    assert len(seen) > 3
    assert all(texts == before for texts in seen)
    assert features.chunks() == before
    assert report.index_version != "" and report.rebuilt  # noqa: PT018


def test_an_expired_feed_compares_everything_and_embeds_nothing_again(features):
    features.put(one=article("apples"), two=article("pears"))
    features.run()
    features.close()
    features.open(features.folder / "restored")  # another feed, without the tombstone
    features.put(two=article("pears"), three=article("plums"))
    features.embedder = embedder = CountingEmbedder()
    report = features.run(allow_empty=True)
    assert report.rescanned
    assert (report.documents_unchanged, report.documents_indexed, report.documents_removed) == (1, 1, 1)
    assert all("plums" in text for text in embedder.texts)
    assert {found for found, _, _ in features.chunks()} == {document(name, "x").id for name in ("two", "three")}
    assert not features.run().rescanned
