"""The feature build from end to end, beside the bare encoding of the same chunks."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.bootstrap import open_sandbox
from llm_engineering.domain.chunks import Chunk, IndexSpec
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
from llm_engineering.infrastructure.model_files import local_folder
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from tools.bench.corpus import ABSENT, ARTICLES, articles
from tools.bench.result import Bar, Benchmark

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "all-MiniLM-L6-v2"
REPEATS = 3
BATCHES = (8, 16, 32, 64)  # tried on a sample; the fastest is what the build is measured against
SAMPLE = 128


def measure(repeats: int = REPEATS) -> Benchmark:
    """Clean, cut, embed and load the articles, `repeats` times in turn with `encode` over the same chunks, sorted by
    their tokens beforehand; the median ratio counts.

    The documents lie in the warehouse and both models are loaded before anything is timed.
    """
    if not ARTICLES.exists():
        return Benchmark(name="features", skipped=ABSENT)
    embedder = SentenceTransformerEmbedder(MODEL)
    embedder.embed(["loaded before anything is timed"])
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warehouse, ledger = open_sqlite(home / "warehouse.db")
        warehouse.put(articles())
        builds, encodes = [], []
        model, batch, chunks = None, 0, []
        for i in range(repeats):
            vectors = EdgeVectorStore(home / f"vectors{i}")
            config = FeatureConfig()
            start = time.perf_counter()
            with open_sandbox(config.budget) as sandbox:
                report = build_features(
                    warehouse=warehouse,
                    ledger=ledger,
                    embedder=embedder,
                    vectors=vectors,
                    sandbox=sandbox,
                    config=config,
                )
            builds.append(time.perf_counter() - start)
            if model is None:
                chunks = _stored(vectors, IndexSpec(embedding=embedder.spec), embedder)
                model, batch = _bare_model([chunk.text for chunk in chunks])
            encodes.append(_encode(model, [chunk.text for chunk in chunks], batch))
        warehouse.close()
    return _result(builds, encodes, batch, chunks, report, embedder)


def _stored(vectors: EdgeVectorStore, spec: IndexSpec, embedder: SentenceTransformerEmbedder) -> list[Chunk]:
    """Shortest first."""
    reader = vectors.reader(spec)
    try:
        hits = reader.search(vector=embedder.embed(["any"])[0], limit=reader.count())
        return sorted((hit.chunk for hit in hits), key=lambda chunk: chunk.tokens)
    finally:
        reader.close()


def _bare_model(texts: list[str]) -> tuple["SentenceTransformer", int]:
    """The model in the faster of bfloat16 and float32, and its fastest batch size, on a sample of the texts."""
    import torch
    from sentence_transformers import SentenceTransformer

    sample = texts[:: max(1, len(texts) // SAMPLE)]
    tried = []
    for dtype in (torch.bfloat16, torch.float32):
        model = SentenceTransformer(str(local_folder(MODEL))).to(dtype=dtype)
        _encode(model, sample[:8], 8)
        tried += [(min(_encode(model, sample, batch) for _ in range(2)), batch, model) for batch in BATCHES]
    _, batch, model = min(tried, key=lambda one: one[0])
    return model, batch


def _encode(model: "SentenceTransformer", texts: list[str], batch: int) -> float:
    """Seconds. `texts` are sorted by their tokens, so each batch is padded as little as can be."""
    start = time.perf_counter()
    for at in range(0, len(texts), batch):
        model.encode(texts[at : at + batch], batch_size=batch, show_progress_bar=False)
    return time.perf_counter() - start


def _result(
    builds: list[float],
    encodes: list[float],
    batch: int,
    chunks: list[Chunk],
    report: FeatureReport,
    embedder: SentenceTransformerEmbedder,
) -> Benchmark:
    ratio = statistics.median(build / encode for build, encode in zip(builds, encodes, strict=True))
    counts = embedder.count_tokens([chunk.text for chunk in chunks])
    rate = report.chunks_embedded / statistics.median(builds)
    stages = ("cleaning", "splitting", "embedding", "loading")
    return Benchmark(
        name="features",
        bars=(
            Bar(what="wall, against the bare encode of the same chunks", value=ratio, unit="x", at_most=1.2),
            Bar(what="characters in no chunk", value=_lost(chunks), unit="characters", at_most=0),
            Bar(
                what="chunks over the encoder's limit",
                value=sum(count > embedder.spec.max_tokens for count in counts),
                unit="chunks",
                at_most=0,
            ),
        ),
        figures={
            "corpus": f"{report.characters / 1e6:.2f} M characters, {report.documents_indexed} articles",
            "chunks": f"{report.chunks_embedded}, {rate:.0f}/s end to end",
            "end to end": ", ".join(f"{seconds:.2f}" for seconds in builds) + " s",
            "bare encode": ", ".join(f"{seconds:.2f}" for seconds in encodes) + f" s in batches of {batch}",
            "last run": ", ".join(f"{stage} {getattr(report, f'seconds_{stage}'):.2f} s" for stage in stages),
        },
    )


def _lost(chunks: list[Chunk]) -> int:
    """Characters of the cleaned articles that are in no stored chunk."""
    from llm_engineering.features.sources import source_named

    stored: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        stored.setdefault(chunk.document_id, []).append(chunk)
    lost = 0
    for document in articles():
        text = source_named(document.source).clean(document.body, document.media_type).text
        covered = bytearray(len(text))
        for chunk in stored.get(document.id, []):
            if text[chunk.start : chunk.end] == chunk.text:
                covered[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
        lost += covered.count(0)
    return lost
