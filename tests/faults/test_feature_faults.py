"""What the feature build does with bad documents, other runs and sudden ends."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llm_engineering.domain.chunks import IndexSpec
from llm_engineering.domain.documents import Author, Document, Kind
from llm_engineering.domain.errors import CleaningError, ConfigError, StoreLocked, TooFewIndexed
from llm_engineering.features.cleaning.clean import Cleaned, clean_body
from llm_engineering.features.config import ChunkingSpec, FeatureConfig
from llm_engineering.features.indexing.chunking import chunks_of
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.features.sources import SOURCES, source_named
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

EMBEDDER = HashingEmbedder(32)
DEFAULTS = FeatureConfig()


def document(name, body, **fields):
    link = f"https://a.example/{name}"
    given = {"link": link, "url": link, "crawled_from": link, "source": "web_article", "kind": Kind.ARTICLE}
    return Document(**{**given, "author": Author(name="Ada"), "media_type": "text/markdown", "body": body, **fields})


@pytest.fixture
def warehouse(tmp_path):
    warehouse, _ = open_sqlite(tmp_path / "warehouse.db")
    yield warehouse
    warehouse.close()


@pytest.fixture
def vectors(tmp_path):
    return EdgeVectorStore(tmp_path / "vectors")


@pytest.fixture
def build(warehouse, vectors):
    def build(config=DEFAULTS, **more):
        given = {"warehouse": warehouse, "embedder": EMBEDDER, "vectors": vectors, "config": config}
        return build_features(**{**given, **more})

    return build


def texts(vectors):
    reader = vectors.reader()
    try:
        hits = reader.search(vector=EMBEDDER.embed(["any"])[0], limit=10_000)
        return sorted((hit.chunk.document_id, hit.chunk.start, hit.chunk.text) for hit in hits)
    finally:
        reader.close()


def refusing(body, media_type):
    if "broken" in body:
        raise CleaningError("the body is not what its media type says")
    return clean_body(body, media_type)


REFUSING = tuple(replace(source, clean=refusing) for source in SOURCES)


def test_a_document_that_cannot_be_cleaned_is_named_and_the_others_go_on(warehouse, vectors, build):
    warehouse.put([document("good", "Words worth keeping."), document("bad", "broken")])
    report = build(sources=REFUSING)
    assert report.documents_empty == {"https://a.example/bad": "the body is not what its media type says"}
    assert [text for _, _, text in texts(vectors)] == ["Words worth keeping."]


def test_a_bug_in_a_cleaner_is_not_taken_for_a_bad_document(warehouse, vectors, build):
    def buggy(body, media_type):
        raise KeyError("bug")

    warehouse.put([document("one", "words")])
    with pytest.raises(KeyError):
        build(sources=tuple(replace(source, clean=buggy) for source in SOURCES))


def test_a_document_that_became_empty_loses_its_chunks(warehouse, vectors, build):
    warehouse.put([document("one", "Old words."), document("two", "Other words.")])
    build()
    warehouse.put([document("one", "  \n ")])
    report = build()
    assert report.documents_empty == {"https://a.example/one": "nothing was left after cleaning"}
    assert (report.empty, report.chunks_removed) == (1, 1)
    assert [text for _, _, text in texts(vectors)] == ["Other words."]


def test_a_document_of_a_source_that_is_no_more_is_named(warehouse, vectors, build):
    warehouse.put([document("one", "words", source="retired")])
    assert "'retired'" in build().documents_empty["https://a.example/one"]


def test_mostly_empty_is_red_keeps_the_rest_searchable_and_is_tried_again(warehouse, vectors, build):
    warehouse.put([document(f"bad{i}", f"broken {i}") for i in range(4)] + [document("good", "Words worth keeping.")])
    for _ in range(2):  # red until somebody mends it
        with pytest.raises(TooFewIndexed, match=r"4 of 5 documents.*a\.example/bad") as caught:
            build(sources=REFUSING)
        assert caught.value.report.empty == 4
        assert [text for _, _, text in texts(vectors)] == ["Words worth keeping."]
    report = build()  # the cleaner was mended
    assert (report.empty, report.documents_unchanged, report.chunks_total) == (0, 1, 5)


def test_a_few_empty_documents_are_not_red(warehouse, build):
    warehouse.put([document("one", " "), document("two", "\n"), document("three", "")])
    assert build().empty == 3


def test_bodies_that_no_store_could_keep_are_indexed_all_the_same(warehouse, vectors, build):
    def clean(body, media_type):
        return Cleaned("nul \0 and half \ud83d of a pair")

    sources = tuple(replace(source, clean=clean) for source in SOURCES)
    warehouse.put([document("one", "anything")])
    build(sources=sources)
    assert [text for _, _, text in texts(vectors)] == ["nul \ufffd and half \ufffd of a pair"]


def test_two_runs_at_once_are_refused_and_nothing_is_lost(warehouse, vectors, build):
    warehouse.put([document("one", "words")])
    with (
        vectors.writer(IndexSpec(embedding=EMBEDDER.spec)),
        pytest.raises(StoreLocked, match="is being written"),
    ):
        build()
    assert build().chunks_total == 1


def test_chunks_that_would_not_fit_the_embedder_are_refused_before_anything_is_written(warehouse, build, tmp_path):
    with pytest.raises(ConfigError, match="max_tokens is 300"):
        build(FeatureConfig(chunking=ChunkingSpec(max_tokens=300)))
    assert not (tmp_path / "vectors").exists()


def test_an_error_under_way_keeps_what_was_published_and_what_was_stored(warehouse, vectors, build):
    warehouse.put([document("old", "Old words.")])
    build()
    before = texts(vectors)
    warehouse.put([document(f"page{i}", f"Words number {i}.") for i in range(10)])

    def full(report):
        if report.documents_indexed >= 4:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        build(FeatureConfig(buffer_chunks=2), on_progress=full)
    assert texts(vectors) == before
    report = build()
    assert report.chunks_total == 11
    assert report.chunks_embedded < 10


RUN = """
import sys
from pathlib import Path
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

def tell(report):
    print(report.chunks_embedded, flush=True)

folder = Path(sys.argv[1])
build_features(
    warehouse=open_sqlite(folder / "warehouse.db")[0], embedder=HashingEmbedder(32), on_progress=tell,
    vectors=EdgeVectorStore(folder / "vectors"), config=FeatureConfig(buffer_chunks=8),
)
"""


@pytest.mark.parametrize("told", [1, 7, 12])
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_chunks(warehouse, vectors, build, tmp_path, told):
    documents = [document(f"page{i:02}", f"# Page {i}\n\n{f'Words of page {i}. ' * 200}") for i in range(30)]
    warehouse.put(documents)
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ
    )
    for _ in range(told):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    report = build()
    expected = [
        (chunk.document_id, chunk.start, chunk.text)
        for one in documents
        for chunk in chunks_of(
            one,
            source_named(one.source).clean(one.body, one.media_type),
            max_tokens=EMBEDDER.spec.max_tokens,
            window_size=1200,
            count_tokens=EMBEDDER.count_tokens,
        )
    ]
    assert texts(vectors) == sorted(expected)
    assert report.chunks_total == len(expected)
