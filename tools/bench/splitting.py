"""How fast text is cut, beside tokenizing it once."""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

from llm_engineering.features.indexing.ingest import DOCUMENT_BATCH
from llm_engineering.features.indexing.splitting import CountTokens, Span, split_all
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
from tools.bench.corpus import ABSENT, ARTICLES, articles
from tools.bench.result import Bar, Benchmark

REPEATS = 7

T = TypeVar("T")


def measure() -> Benchmark:
    """Both are timed in turn, `REPEATS` times; the ratio is the median of the pairs."""
    if not ARTICLES.exists():
        return Benchmark(name="splitting", skipped=ABSENT)
    embedder = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
    limit, count = embedder.spec.max_tokens, embedder.count_tokens
    texts = [document.body for document in articles()]
    count(["the tokenizer is loaded before anything is timed"])
    tokenizing, splitting = [], []
    for _ in range(REPEATS):
        tokenizing.append(_seconds(lambda: count(texts))[0])
        seconds, cut = _seconds(lambda: _split(texts, limit, count))
        splitting.append(seconds)
    lost, over, spans = _judge(texts, cut, count, limit)
    size = sum(len(text.encode()) for text in texts) / 1e6
    ratio = statistics.median(t / s for t, s in zip(tokenizing, splitting, strict=True))
    return Benchmark(
        name="splitting",
        bars=(
            Bar(what="speed, against tokenizing the same text once", value=ratio, unit="x", at_least=0.5),
            Bar(what="characters lost", value=lost, unit="characters", at_most=0),
            Bar(what="chunks over the encoder's limit", value=over, unit="chunks", at_most=0),
        ),
        figures={
            "text": f"{size:.2f} MB in {len(texts)} articles",
            "tokenizing": f"{size / statistics.median(tokenizing):.2f} MB/s",
            "splitting": f"{size / statistics.median(splitting):.2f} MB/s",
            "chunks": f"{len(spans)}, {statistics.median(span.tokens for span in spans):.0f} tokens in the median",
        },
    )


def _split(texts: list[str], limit: int, count: CountTokens) -> list[list[Span]]:
    """As many at once as the feature build takes."""
    return [
        spans
        for at in range(0, len(texts), DOCUMENT_BATCH)
        for spans in split_all(
            [(text, "markdown") for text in texts[at : at + DOCUMENT_BATCH]], max_tokens=limit, count_tokens=count
        )
    ]


def _judge(texts: list[str], cut: list[list[Span]], count: CountTokens, limit: int) -> tuple[int, int, list[Span]]:
    """(characters in no chunk, chunks that overflow when counted anew, all spans)."""
    lost = over = 0
    for text, spans in zip(texts, cut, strict=True):
        covered = bytearray(len(text))
        for span in spans:
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
        lost += covered.count(0)
        over += sum(tokens > limit for tokens in count([text[span.start : span.end] for span in spans]))
    return lost, over, [span for spans in cut for span in spans]


def _seconds(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
