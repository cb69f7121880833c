"""How well each retrieval setting finds the right passage in the real articles, and where "nothing found" begins."""

import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from llm_engineering.bootstrap import open_sandbox
from llm_engineering.domain.chunks import IndexSpec
from llm_engineering.domain.ports import Embedder, VectorReader
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import evaluate_retrieval
from llm_engineering.inference.evaluation.golden import golden_set
from llm_engineering.inference.evaluation.report import RetrievalReport, Scores
from llm_engineering.inference.evaluation.threshold import ErrorRates, error_rates, phrased, relevances
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
from llm_engineering.infrastructure.rerankers import MaxSimReranker
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from tools.bench.corpus import ABSENT, ARTICLES, articles
from tools.bench.result import Bar, Benchmark

MODEL = "all-MiniLM-L6-v2"

# What nobody writes about in the articles.
OFF_TOPIC = (
    "How long does sourdough bread have to rise?",
    "What is the capital of Mongolia?",
    "Who won the football world cup in 1998?",
    "How do I repot an orchid without hurting its roots?",
    "Which tax form does a farmer need?",
    "What did Napoleon eat before the battle of Waterloo?",
    "How do I change the tyre of a bicycle?",
    "Can cats eat tomatoes?",
    "What is the best time to visit Patagonia?",
    "How high is Mount Kilimanjaro?",
    "Why does my washing machine smell?",
    "How is parmesan cheese aged?",
    "What are the symptoms of the measles?",
    "Which key is Beethoven's ninth symphony in?",
    "How do I knit a sock heel?",
    "When do swallows migrate to Africa?",
    "What is the penalty for speeding in Norway?",
    "How do I get red wine out of a carpet?",
    "Who painted the ceiling of the Sistine Chapel?",
    "How many players are in a volleyball team?",
    "What is a good stretch for lower back pain?",
    "How do volcanoes form islands?",
    "Which wood is best for a cutting board?",
    "How do I prune apple trees in winter?",
    "What is the plot of Romeo and Juliet?",
    "How much sleep does a newborn need?",
    "What language is spoken in Paraguay?",
    "How do I tie a bowline knot?",
    "Why is the sea salty?",
    "How do I bleed a radiator?",
)

# The same, to be asked for in a frame: "What did Ann write about parmesan?"
OFF_TOPICS = (
    "sourdough bread",
    "the capital of Mongolia",
    "football world cups",
    "repotting orchids",
    "tax forms for farmers",
    "Napoleon",
    "bicycle tyres",
    "cats and tomatoes",
    "travelling in Patagonia",
    "Kilimanjaro",
    "washing machines",
    "parmesan",
    "measles",
    "Beethoven",
    "knitting socks",
    "swallows",
    "speeding tickets in Norway",
    "carpets",
    "the Sistine Chapel",
    "volleyball",
    "back pain",
    "volcanoes",
    "cutting boards",
    "apple trees",
    "Romeo and Juliet",
    "newborns",
    "Paraguay",
    "knots",
    "the salt in the sea",
    "radiators",
)
THRESHOLDS = (0.2, 0.25, 0.28, 0.3, 0.32, 0.35, 0.38, 0.4)


def measure(config: RetrievalEvaluationConfig | None = None) -> Benchmark:
    """Choose the best setting on one half of the articles, and measure it on the other."""
    if not ARTICLES.exists():
        return Benchmark(name="quality", skipped=ABSENT)
    config = config or RetrievalEvaluationConfig()
    embedder = SentenceTransformerEmbedder(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warehouse, ledger = open_sqlite(home / "warehouse.db")
        warehouse.put(articles())
        vectors = EdgeVectorStore(home / "vectors")
        features = FeatureConfig()
        with open_sandbox(features.budget) as sandbox:
            build_features(
                warehouse=warehouse, ledger=ledger, embedder=embedder, vectors=vectors, sandbox=sandbox, config=features
            )
        warehouse.close()
        reader = open_index(vectors, embedder=embedder)
        report = evaluate_retrieval(
            reader=reader,
            embedder=embedder,
            scratch=EdgeVectorStore(home / "scratch"),
            rerankers={"maxsim": MaxSimReranker(embedder, remember=config.chunks)},
            config=config,
        )
        bare = EdgeVectorStore(home / "scratch").reader(IndexSpec(embedding=embedder.spec))
        thresholds = threshold_error_rates(reader, bare, embedder, config)
        bare.close()
        reader.close()
    return result(report, thresholds)


def threshold_error_rates(
    reader: VectorReader, bare: VectorReader, embedder: Embedder, config: RetrievalEvaluationConfig
) -> list[ErrorRates]:
    """At each `min_relevance`, the configured one first, in `bare`, which holds no titles and headings:
    theirs are the questions that have an answer there. Off-topic ones have none, also when an author is named."""
    _, golden = golden_set(reader.sample(), queries=config.queries, dropout=config.dropout, seed=config.seed)
    authors = reader.facets().authors
    titles = [(q.text, authors[q.author_id]) for q in golden.queries if q.way in ("title", "heading")]
    names = sorted(authors.values())
    off_topic = phrased((topic, names[i % len(names)]) for i, topic in enumerate(OFF_TOPICS))
    ask = AskConfig(retrieval=config.retrieval)

    def measure(questions: Sequence[str]) -> list[float]:
        return relevances(questions, reader=bare, embedder=embedder, config=ask, today=date.today())

    thresholds = (config.retrieval.min_relevance, *THRESHOLDS)
    return error_rates(measure(phrased(titles)), measure([*OFF_TOPIC, *off_topic]), thresholds)


def result(report: RetrievalReport, thresholds: Sequence[ErrorRates]) -> Benchmark:
    gain, difference = report.best_gain, report.of(report.best).gain
    figures = {"chosen on one half": report.best, "golden set": f"{report.golden}, {report.questions}"}
    figures["MRR@10 over dense, other half"] = (
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    )
    figures |= {f"{name}": _line(report, name) for name in report.settings}
    configured, *others = thresholds
    figures["at the configured min_relevance"] = (
        f"{configured.false_rejections:.1%} of questions for the corpus's own titles and headings are turned away, "
        f"{configured.false_acceptances:.1%} of off-topic questions are not"
    )
    figures |= {
        f"min_relevance {o.min_relevance:.2f}": f"{o.false_rejections:.1%}, {o.false_acceptances:.1%}" for o in others
    }
    figures["evaluation"] = f"{report.seconds:.0f} s"
    return Benchmark(
        name="quality",
        bars=(
            Bar(what="MRR@10 of the chosen setting, over dense", value=100 * gain.value, unit="%", at_least=10),
            Bar(what="lower end of its 95 % interval", value=100 * gain.low, unit="%", at_least=0),
        ),
        figures=figures,
    )


def _line(report: RetrievalReport, name: str) -> str:
    """Chosen half, other half, then the other half's other measures and its gain."""
    choose, other = report.of(name, half="choose"), report.of(name)
    rest = ", ".join(f"{m} {other.measures[m].value:.3f}" for m in ("hit@1", "hit@5", "ndcg@10"))
    return f"MRR@10 {_mrr(choose)} | {_mrr(other)} ({rest}; {other.gain.value:+.3f})"


def _mrr(scores: Scores) -> str:
    return f"{scores.measures['mrr@10'].value:.3f}"
