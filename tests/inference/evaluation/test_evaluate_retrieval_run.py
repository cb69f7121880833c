"""The whole evaluation over a small published index, with real adapters."""

import pytest
from passages import fill, passage

from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ids import content_hash
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.evaluation.comparison import compare
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import OnProgress, evaluate_retrieval, sample_documents
from llm_engineering.inference.evaluation.golden import half_of
from llm_engineering.inference.evaluation.grid import CONFIGURED, settings_grid
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.rerankers import MaxSimReranker
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore

SUBJECTS = ("bread", "robots", "gardens", "engines", "glaciers", "violins", "lenses", "bridges", "kites", "clocks")
WAYS = {"dense", "bm25", "hybrid, ranks 1:1", "hybrid, ranks 1:0.5"}
WAYS |= {f"hybrid, scores 1:{weight}" for weight in ("1", "0.7", "0.4")}
SMALL = RetrievalEvaluationConfig(queries=60, resamples=200)


@pytest.fixture(scope="module")
def embedder():
    return HashingEmbedder(256)


def corpus():
    for number, subject in enumerate(SUBJECTS):
        for part, verb in enumerate(("mending", "buying", "painting")):
            yield passage(
                3 * number + part,
                document=number,
                text=f"## On {verb} {subject} well\n\nWhoever has {subject} and is {verb} them in {1900 + number} "
                f"needs patience, a table and {part + 2} good friends who know about {subject} already"
                + " again" * number
                + ".",
                title=f"The long book of {subject}",
                headings=(f"The long book of {subject}", f"On {verb} {subject} well"),
                start=1000 * part,
            )


@pytest.fixture(scope="module")
def reader(tmp_path_factory, embedder):
    store = EdgeVectorStore(tmp_path_factory.mktemp("published"))
    chunks = list(corpus())
    rows = embedder.embed([chunk.text for chunk in chunks])
    pairs = [EmbeddedChunk(*pair) for pair in zip(chunks, rows, strict=True)]
    fill(store, pairs, spec=IndexSpec(embedding=embedder.spec))
    reader = open_index(store, embedder=embedder)
    yield reader
    reader.close()


@pytest.fixture
def evaluate(reader, embedder, tmp_path):
    def evaluate(config: RetrievalEvaluationConfig = SMALL, on_progress: OnProgress = print) -> RetrievalReport:
        return evaluate_retrieval(
            reader=reader,
            embedder=embedder,
            scratch=EdgeVectorStore(tmp_path / "scratch"),
            rerankers={"maxsim": MaxSimReranker(embedder)},
            config=config,
            on_progress=on_progress,
        )

    return evaluate


@pytest.fixture(scope="module")
def report(reader, embedder, tmp_path_factory):
    return evaluate_retrieval(
        reader=reader,
        embedder=embedder,
        scratch=EdgeVectorStore(tmp_path_factory.mktemp("scratch")),
        rerankers={"maxsim": MaxSimReranker(embedder)},
        config=SMALL,
    )


def test_every_setting_is_measured_with_and_without_the_filter_by_way_and_by_kind(report):
    assert set(report.settings) == WAYS | {f"{one} + maxsim" for one in WAYS} | {CONFIGURED}
    slices = {("choose", "all"), ("measure", "all"), ("all", "all")}
    slices |= {("all", f"way: {way}") for way in ("title", "heading", "sentence")}
    slices |= {("all", f"kind: {kind}") for kind in (Kind.ARTICLE, Kind.POST)}
    for setting in report.settings:
        for filtered in (False, True):
            found = {(s.half, s.slice) for s in report.scores if (s.setting, s.filtered) == (setting, filtered)}
            assert found == slices


def test_values_lie_in_their_intervals_and_dense_gains_nothing_over_itself(report):
    for scores in report.scores:
        for estimate in scores.measures.values():
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    gain = report.of("dense").gain
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert report.of("bm25", half="all").measures["hit@5"].value > 0.5


def test_halves_share_no_question_and_hold_them_all(report):
    halves = [report.of("dense", half=half).questions for half in ("choose", "measure", "all")]
    assert halves[0] + halves[1] == halves[2] == sum(report.questions.values())
    assert min(halves) > 0


def test_the_best_setting_is_chosen_on_one_half_and_judged_on_the_other(report):
    chosen = {name: report.of(name, half="choose").measures["mrr@10"].value for name in report.settings}
    assert chosen[report.best] == max(chosen.values())
    best, dense = (report.of(name).measures["mrr@10"].value for name in (report.best, "dense"))
    assert report.best_gain.value == pytest.approx(best / dense - 1)


def test_a_filter_leaves_only_the_authors_own_passages_to_find(report):
    for name in report.settings:
        alone, among_all = (report.of(name, half="all", filtered=f).measures["mrr@10"].value for f in (True, False))
        assert alone >= among_all - 0.02


def test_the_same_run_twice_says_the_same(evaluate, report):
    """Of the fusions of ranks only nearly: the engine gives equal scores different ranks."""
    progress: list[str] = []
    again = evaluate(on_progress=progress.append)
    assert again.golden == report.golden
    for setting in (name for name in report.settings if "ranks" not in name):
        for filtered in (False, True):
            assert again.of(setting, filtered=filtered) == report.of(setting, filtered=filtered)
    assert any("embedding 30 of 30" in line for line in progress)


def test_the_published_index_is_left_as_it_was(evaluate, reader):
    before = (reader.info(), list(reader.sample()))
    evaluate()
    assert (reader.info(), list(reader.sample())) == before


def test_a_large_corpus_is_cut_to_whole_documents(reader):
    some = list(sample_documents(reader, max_chunks=10, seed=7))
    assert len(some) == 9
    assert len({chunk.document_id for chunk in some}) == 3
    assert {c.document_id for c in some} != {c.document_id for c in sample_documents(reader, max_chunks=10, seed=9)}
    assert len(list(sample_documents(reader, max_chunks=1, seed=7))) == 6
    assert len(list(sample_documents(reader, max_chunks=30, seed=7))) == 30


def test_too_small_a_corpus_is_refused_and_says_what_to_do(evaluate):
    with pytest.raises(LLMTwinError, match=r"too few questions.*poe run-features"):
        evaluate(SMALL.model_copy(update={"seed": _seed_with_one_half(), "chunks": 1}))


def _seed_with_one_half() -> int:
    documents = {chunk.document_id for chunk in corpus()}
    for seed in range(100):
        first = sorted(documents, key=lambda one: content_hash(str(seed), one))[:2]
        if len({half_of(one, seed) for one in first}) == 1:
            return seed
    raise AssertionError("no such seed")


def test_no_reranker_means_no_reranked_setting():
    assert set(settings_grid(RetrievalConfig(), [])) == WAYS | {CONFIGURED}


# --- against the accepted run --------------------------------------------------------------------------------


def with_mrr(report: RetrievalReport, value: float, *, golden: str | None = None) -> RetrievalReport:
    """The report, its configured setting at another MRR@10, in an interval of ±0.05."""
    scores = []
    for one in report.scores:
        estimate = one.measures["mrr@10"].model_copy(update={"value": value, "low": value - 0.05, "high": value + 0.05})
        changed = one.model_copy(update={"measures": one.measures | {"mrr@10": estimate}})
        scores.append(changed if one.setting == CONFIGURED else one)
    return report.model_copy(update={"scores": tuple(scores), "golden": golden or report.golden})


def test_the_first_run_has_nothing_to_be_compared_with(report):
    comparison = compare(report, None, tolerance=0.02)
    assert comparison.red == ""
    assert "--accept" in comparison.note


@pytest.mark.parametrize(("now", "red"), [(0.60, False), (0.585, False), (0.57, True), (0.7, False)])
def test_a_fall_beyond_the_tolerance_is_red(report, now, red):
    comparison = compare(with_mrr(report, now), with_mrr(report, 0.6), tolerance=0.02)
    assert bool(comparison.red) is red
    if red:
        assert "0.570" in comparison.red
        assert "0.600" in comparison.red


@pytest.mark.parametrize(("now", "red"), [(0.55, False), (0.52, True)])
def test_on_another_golden_set_only_a_sure_fall_is_red(report, now, red):
    comparison = compare(with_mrr(report, now, golden="other"), with_mrr(report, 0.6), tolerance=0.02)
    assert bool(comparison.red) is red
    assert "golden set changed" in comparison.note


def test_a_report_is_kept_as_json(report):
    assert RetrievalReport.model_validate_json(report.model_dump_json()) == report
    with pytest.raises(LookupError, match="nonesuch"):
        report.of("nonesuch")
