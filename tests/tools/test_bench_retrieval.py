"""The benchmarks of retrieval measure what they say, on a small index without a model."""

from datetime import UTC, datetime

from llm_engineering.domain.statistics import Estimate
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.evaluation.measures import MEASURES
from llm_engineering.inference.evaluation.report import RetrievalReport, Scores
from llm_engineering.inference.evaluation.threshold import ErrorRates
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from tools.bench import quality, retrieval


def test_made_up_chunks_are_indexed_and_asked_under_an_author_filter(tmp_path):
    embedder = HashingEmbedder(32)
    store = EdgeVectorStore(tmp_path / "vectors")
    words = retrieval._words()[:50]
    assert len(set(words)) == 50
    retrieval._fill(store, embedder.spec, 500, words, [1.0] * 50)
    reader = open_index(store, embedder=embedder)
    info = reader.info()
    assert info is not None
    assert info.chunks == 500
    assert len(reader.facets().authors) == retrieval.AUTHORS
    whole, engine, processor = retrieval._times([" ".join(words[:3]), words[4]], reader, embedder)
    assert len(whole) == len(engine) == 2
    assert all(0 < part < one for part, one in zip(engine, whole, strict=True))
    assert processor > 0
    assert len(retrieval._rerank_times(words[:3], reader, embedder)) == 1


def report(gain: float) -> RetrievalReport:
    estimate = Estimate(value=gain, low=gain - 0.05, high=gain + 0.05)
    scores = [
        Scores(
            setting=name,
            half=half,
            slice="all",
            filtered=False,
            questions=9,
            measures=dict.fromkeys(MEASURES, Estimate(value=0.5, low=0.4, high=0.6)),
            gain=estimate,
        )
        for name in ("dense", "hybrid")
        for half in ("choose", "measure")
    ]
    return RetrievalReport(
        golden="abc",
        embedder="hashing",
        seed=1,
        documents=2,
        chunks=3,
        questions={"title": 18},
        settings={"dense": RetrievalConfig(), "hybrid": RetrievalConfig()},
        scores=tuple(scores),
        best="hybrid",
        best_gain=estimate,
        configured="hybrid",
        seconds=1.0,
        started_at=datetime.now(UTC),
    )


def test_the_quality_bars_are_the_gain_and_its_lower_end():
    at = [
        ErrorRates(min_relevance=0.3, false_rejections=0.0, false_acceptances=0.1),
        ErrorRates(min_relevance=0.4, false_rejections=0.2, false_acceptances=0),
    ]
    good, bad = quality.result(report(0.2), at), quality.result(report(0.04), at)
    assert [bar.met for bar in good.bars] == [True, True]
    assert [bar.met for bar in bad.bars] == [False, False]
    assert {"dense", "hybrid"} <= set(good.figures)
    assert "10.0% of off-topic" in good.figures["at the configured min_relevance"]
    assert good.figures["min_relevance 0.40"] == "20.0%, 0.0%"
