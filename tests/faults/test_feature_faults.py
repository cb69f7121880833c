"""What the feature build does with bad documents, other runs and sudden ends."""

import base64
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from feature_build import FeatureBuild, document
from loguru import logger
from pdf_files import written

from llm_engineering.domain.chunks import IndexSpec
from llm_engineering.domain.errors import CleaningError, ConfigError, StoreLocked, TooFewIndexed
from llm_engineering.domain.ledger import DocumentFailure
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.config import ChunkingSpec, FeatureConfig
from llm_engineering.features.indexing import failures
from llm_engineering.features.indexing.chunking import chunks_of_all, cut
from llm_engineering.features.sources import SOURCES, Source, source_named
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.warehouse.sqlite import SqliteLedger
from llm_engineering.infrastructure.warehouse.sqlite_file import SqliteFile

EMBEDDER = HashingEmbedder(32)
GOOD = (document("first", "Words worth keeping."), document("last", "More of them."))


@pytest.fixture
def features(tmp_path: Path) -> Generator[FeatureBuild]:
    features = FeatureBuild(tmp_path, EMBEDDER)
    yield features
    features.close()


@pytest.fixture
def log() -> Generator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", diagnose=False)
    yield lines
    logger.remove(sink)


def cleaned_by(clean: Callable[[str, str], Cleaned]) -> tuple[Source, ...]:
    return tuple(replace(source, clean=clean) for source in SOURCES)


def failing(error: BaseException) -> tuple[Source, ...]:
    """Sources that cannot clean what holds the word "broken"."""

    def clean(body: str, media_type: str) -> Cleaned:
        if "broken" in body:
            raise error
        return clean_body(body, media_type)

    return cleaned_by(clean)


REFUSING = failing(CleaningError("the body is not what its media type says"))


def only_the_bad_one_failed(report: FeatureReport, features: FeatureBuild) -> str:
    """The detail of its failure."""
    assert (report.documents_seen, report.documents_indexed, report.failed, report.red) == (3, 2, 1, "")
    assert features.texts() == sorted(one.body for one in GOOD)
    [failure] = report.failures
    [recorded] = features.ledger.document_failures()
    assert failure.link == recorded.link
    assert (failure.reason, failure.detail) == (recorded.reason, recorded.detail)
    return f"{failure.reason} {failure.detail}"


def test_a_pdf_that_the_library_does_not_know_is_its_own_outcome_and_the_others_are_indexed(features, log):
    body = base64.b64encode(written("Text.", stream_filter="/NoSuchFilter")).decode()
    bad = document("bad", body, media_type="application/pdf", encoding="base64")
    features.warehouse.put([GOOD[0], bad, GOOD[1]])
    detail = only_the_bad_one_failed(features.run(), features)
    assert detail.startswith("unreadable clean: NotImplementedError at pypdf.")
    assert "called from llm_engineering.features.cleaning.pdf:" in detail
    assert "Unsupported filter /NoSuchFilter" in detail
    [line] = log
    assert bad.link in line
    assert "Traceback" in line


def test_a_fault_in_a_cleaner_is_that_documents_outcome_and_its_traceback_is_in_the_log(features, log):
    features.warehouse.put([GOOD[0], document("bad", "broken"), GOOD[1]])
    detail = only_the_bad_one_failed(features.run(sources=failing(KeyError("no such tag"))), features)
    assert detail.startswith("internal_error clean: KeyError at ")
    assert detail.endswith("'no such tag'")
    assert "in clean\n    raise error" in log[0]


def test_recursion_without_end_is_that_documents_outcome(features):
    def clean(body: str, media_type: str) -> Cleaned:
        return clean(body, media_type) if "broken" in body else clean_body(body, media_type)

    features.warehouse.put([GOOD[0], document("bad", "broken"), GOOD[1]])
    detail = only_the_bad_one_failed(features.run(sources=cleaned_by(clean)), features)
    assert detail.startswith("internal_error clean: RecursionError at ")


class FailingCounter(HashingEmbedder):
    """Cannot count the tokens of what holds the word "broken"."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if any("broken" in text for text in texts):
            raise OverflowError("too many tokens")
        return super().count_tokens(texts)


def test_a_document_that_cannot_be_cut_is_its_own_outcome_and_those_beside_it_are_cut(features):
    features.embedder = FailingCounter(32)
    features.warehouse.put([GOOD[0], document("bad", "broken"), GOOD[1]])
    detail = only_the_bad_one_failed(features.run(), features)
    assert detail.startswith("internal_error cut: OverflowError at ")
    assert "called from llm_engineering.features.indexing." in detail


def test_a_cleaner_that_gives_nothing_is_that_documents_outcome(features):
    def clean(body: str, media_type: str) -> Cleaned:
        return None if "broken" in body else clean_body(body, media_type)  # ty: ignore[invalid-explicit-return]  # the fault

    features.warehouse.put([GOOD[0], document("bad", "broken"), GOOD[1]])
    assert "cut: AttributeError" in only_the_bad_one_failed(features.run(sources=cleaned_by(clean)), features)


def test_a_document_that_cannot_be_read_from_the_warehouse_is_its_own_outcome(features, tmp_path):
    bad = document("bad", "Words.")
    features.warehouse.put([GOOD[0], bad, GOOD[1]])
    with sqlite3.connect(tmp_path / "warehouse.db") as connection:
        connection.execute("UPDATE documents SET payload=? WHERE id=?", (b"half", bad.id))
    detail = only_the_bad_one_failed(features.run(), features)
    assert detail.startswith("unreadable read: ")
    assert bad.id in detail


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit()])
def test_what_is_not_a_documents_outcome_ends_the_run(features, error):
    features.warehouse.put([*GOOD, document("bad", "broken")])
    with pytest.raises(type(error)):
        features.run(sources=failing(error))
    assert list(features.ledger.document_failures()) == []


def test_a_message_of_many_lines_and_half_characters_becomes_one_line(features):
    features.warehouse.put([*GOOD, document("bad", "broken")])
    detail = only_the_bad_one_failed(
        features.run(sources=failing(ValueError("one\n two \ud83d" + "x" * 9999))), features
    )
    assert "one two \ufffdx" in detail
    assert "\n" not in detail
    assert len(detail) < 600


def test_a_document_that_fails_loses_the_chunks_of_its_older_text(features):
    features.put(one="Old words.", two="Other words.")
    features.run()
    features.put(one="broken words", three="New words.")
    report = features.run(sources=REFUSING)
    assert (report.failed, report.chunks_removed) == (1, 1)
    assert "Old words." not in features.texts()


def counting(calls: list[str]) -> tuple[Source, ...]:
    """Sources that write down which broken bodies they are given."""

    def clean(body: str, media_type: str) -> Cleaned:
        if "broken" in body:
            calls.append(body)
            raise CleaningError("broken")
        return clean_body(body, media_type)

    return cleaned_by(clean)


def test_a_failed_document_is_tried_again_when_it_or_the_code_changed_or_with_rebuild_and_is_reported_meanwhile(
    features,
):
    features.warehouse.put([*GOOD, document("bad", "broken")])
    calls: list[str] = []
    sources = counting(calls)
    features.run(sources=sources, code="1")
    report = features.run(sources=sources, code="1")
    assert (report.documents_seen, report.failed, len(report.failures)) == (0, 1, 1)
    assert calls == ["broken"]
    features.run(sources=sources, code="2")
    features.run(sources=sources, code="2")
    assert calls == ["broken"] * 2
    features.put(bad="broken again")
    features.run(sources=sources, code="2")
    assert calls == ["broken", "broken", "broken again"]
    features.run(sources=sources, code="2", rebuild=True)
    assert len(calls) == 4
    report = features.run(code="3")  # the cleaner was mended
    assert (report.documents_indexed, report.failed, report.failures) == (1, 0, ())
    assert "broken again" in features.texts()
    assert list(features.ledger.document_failures()) == []


def test_a_failed_document_that_is_deleted_is_no_failure_any_more(features):
    bad = document("bad", "broken")
    features.warehouse.put([*GOOD, bad])
    assert features.run(sources=REFUSING).failed == 1
    features.warehouse.delete([bad.id])
    assert features.run(sources=REFUSING).failed == 0
    assert list(features.ledger.document_failures()) == []


class LastWords(SqliteLedger):
    """The run ends after it has recorded, and before the index has its checkpoint."""

    def record_document_failures(self, failures: Iterable[DocumentFailure]) -> None:
        super().record_document_failures(failures)
        raise SystemExit


def test_a_run_that_ends_between_the_ledger_and_the_index_loses_no_failure_and_invents_none(features, tmp_path):
    features.put(one="Words.", two="Other words.")
    features.run()
    features.put(one="broken")
    ledger, features.ledger = features.ledger, LastWords(SqliteFile(tmp_path / "warehouse.db", timeout=5))
    with pytest.raises(SystemExit):
        features.run(sources=REFUSING)
    features.ledger = ledger
    assert len(list(ledger.document_failures())) == 1
    features.put(one="Mended words.")
    assert features.run().failed == 0
    assert list(ledger.document_failures()) == []


def test_the_version_of_the_code_is_the_same_until_a_module_or_a_library_changes(monkeypatch):
    before = failures.code_version()
    failures.code_version.cache_clear()
    assert failures.code_version() == before
    failures.code_version.cache_clear()
    monkeypatch.setattr(failures, "version", lambda library: "99.0")
    assert failures.code_version() != before
    failures.code_version.cache_clear()


def test_a_document_that_became_empty_loses_its_chunks(features):
    features.put(one="Old words.", two="Other words.")
    features.run()
    features.put(one="  \n ")
    report = features.run()
    assert report.documents_empty == {"https://a.example/one": "nothing was left after cleaning"}
    assert (report.empty, report.failed, report.chunks_removed) == (1, 0, 1)
    assert features.texts() == ["Other words."]


def test_a_document_of_a_source_that_is_no_more_is_named(features):
    features.warehouse.put([*GOOD, document("bad", "words", source="retired")])
    assert only_the_bad_one_failed(features.run(), features) == "no_source no source is called 'retired' any more"


def test_too_few_indexed_is_red_keeps_the_rest_searchable_and_stays_red_until_it_is_mended(features):
    bad = [document(f"bad{i}", f"broken {i}") for i in range(4)]
    features.warehouse.put([*bad, document("good", "Words worth keeping.")])
    for _ in range(2):
        with pytest.raises(
            TooFewIndexed, match=r"1 of 5 documents[^\n]*50%[^\n]*\n  4 unreadable[^\n]*a\.example/bad"
        ) as caught:
            features.run(sources=REFUSING, code="1")
        report = caught.value.report
        assert report
        assert (report.failed, len(report.failures), report.red) == (4, 4, str(caught.value))
        assert features.texts() == ["Words worth keeping."]
    report = features.run(code="2")
    assert (report.failed, report.documents_indexed, report.chunks_total, report.red) == (0, 4, 5, "")


def test_a_lower_success_rate_lets_more_fail_but_never_all(features):
    lenient = FeatureConfig(min_success_rate=0)
    features.warehouse.put([document("one", "broken 1"), document("two", "broken 2")])
    with pytest.raises(TooFewIndexed, match="0 of 2 documents"):
        features.run(lenient, sources=REFUSING)
    features.warehouse.put([document("good", "Words worth keeping.")])
    assert features.run(lenient, sources=REFUSING).failed == 2


def test_a_run_that_only_adds_failures_is_red_however_many_documents_are_indexed_already(features):
    features.put(**{f"page{i}": f"Words number {i}." for i in range(6)})
    features.run()
    features.put(bad="broken")
    with pytest.raises(TooFewIndexed, match="none of the 1 new or changed documents"):
        features.run(sources=REFUSING)
    assert features.run(sources=REFUSING, code="another").failed == 1  # tried again, and nothing new


def test_a_few_empty_documents_are_not_red(features):
    features.put(one=" ", two="\n", three="")
    assert features.run().empty == 3


def test_mostly_empty_is_red(features):
    features.put(**{f"empty{i}": " " for i in range(4)}, good="Words worth keeping.")
    with pytest.raises(TooFewIndexed, match=r"1 of 5 documents.*\n  4 empty"):
        features.run()


def test_bodies_that_no_store_could_keep_are_indexed_all_the_same(features):
    features.warehouse.put([document("one", "anything")])
    features.run(sources=cleaned_by(lambda body, media_type: Cleaned("nul \0 and half \ud83d of a pair")))
    assert features.texts() == ["nul \ufffd and half \ufffd of a pair"]


def test_two_runs_at_once_are_refused_and_nothing_is_lost(features):
    features.warehouse.put([document("one", "words")])
    with (
        features.vectors.writer(IndexSpec(embedding=EMBEDDER.spec)),
        pytest.raises(StoreLocked, match="is being written"),
    ):
        features.run()
    assert features.run().chunks_total == 1


def test_chunks_that_would_not_fit_the_embedder_are_refused_before_anything_is_written(features, tmp_path):
    with pytest.raises(ConfigError, match="max_tokens is 300"):
        features.run(FeatureConfig(chunking=ChunkingSpec(max_tokens=300)))
    assert not (tmp_path / "vectors").exists()


def test_an_error_under_way_keeps_what_was_published_and_what_was_stored(features):
    features.warehouse.put([document("old", "Old words.")])
    features.run()
    before = features.chunks()
    features.warehouse.put([document(f"page{i}", f"Words number {i}.") for i in range(10)])

    def full(report):
        if report.documents_indexed >= 4:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        features.run(FeatureConfig(buffer_chunks=2), on_progress=full)
    assert features.chunks() == before
    report = features.run()
    assert report.chunks_total == 11
    assert report.chunks_embedded < 10


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from feature_build import FeatureBuild
from llm_engineering.features.config import FeatureConfig

features = FeatureBuild(Path(sys.argv[1]))
features.run(FeatureConfig(buffer_chunks=8), on_progress=lambda report: print(report.chunks_embedded, flush=True))
"""


@pytest.mark.parametrize("reports", [1, 7, 12])
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_chunks(features, tmp_path, reports):
    documents = [document(f"page{i:02}", f"# Page {i}\n\n{f'Words of page {i}. ' * 200}") for i in range(30)]
    features.warehouse.put(documents)
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ
    )
    assert process.stdout
    for _ in range(reports):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    report = features.run()
    limit = EMBEDDER.spec.max_tokens
    cuts = [(one, cut(source_named(one.source).clean(one.body, one.media_type), limit)) for one in documents]
    all_chunks = chunks_of_all(cuts, max_tokens=limit, window_size=1200, count_tokens=EMBEDDER.count_tokens)
    expected = [(chunk.document_id, chunk.start, chunk.text) for chunks in all_chunks for chunk in chunks]
    assert features.chunks() == sorted(expected)
    assert report.chunks_total == len(expected)
