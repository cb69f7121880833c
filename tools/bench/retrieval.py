"""How long a question takes: embedding it, asking the engine with an author filter, and reading the hits again."""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from llm_engineering.domain.answers import ParsedQuestion
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, EmbeddingSpec, IndexSpec, Where
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.ids import content_hash, stable_id
from llm_engineering.domain.ports import Embedder, TokenEmbedder, VectorReader
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.retrieval.retrieve import FoundPassages, find_passages, open_index
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
from llm_engineering.infrastructure.model_files import local_folder
from llm_engineering.infrastructure.rerankers import MaxSimReranker
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from tools.bench.result import Bar, Benchmark

MODEL = "all-MiniLM-L6-v2"
SIZES = {10_000: 40.0, 100_000: 80.0}  # chunks -> milliseconds that 95 of 100 questions may take
ENGINE = 5.0
RERANKED = 250.0
QUESTIONS = 200
AUTHORS = 20
WORDS = 15_000  # in the vocabulary, used as often as Zipf's law says
LENGTHS = (60, 236)  # words, one token each; 148 on average, as the chunks of the real articles have (149)
PER_DOCUMENT = 20
BATCH = 2_000


def measure(sizes: dict[int, float] | None = None, questions: int = QUESTIONS) -> Benchmark:
    """Made up chunks, as long as real ones, with unit vectors in random directions, by twenty authors; every question
    is asked twice, and the second time counts."""
    embedder = SentenceTransformerEmbedder(MODEL)
    embedder.embed(["loaded before anything is timed"])
    draw = Random(5)
    words = _words()
    weights = [1 / (i + 10) for i in range(len(words))]
    texts = [" ".join(draw.choices(words, weights, k=9)) + "?" for _ in range(questions)]
    bars: list[Bar] = []
    figures: dict[str, str] = {}
    reranking: list[float] = []
    for size, most in (sizes or SIZES).items():
        with tempfile.TemporaryDirectory() as folder:
            store = EdgeVectorStore(Path(folder) / "vectors")
            _fill(store, embedder.spec, size, words, weights)
            reader = open_index(store, embedder=embedder)
            first = _times(texts, reader, embedder)  # what the engine keeps on the disk is read for the first time
            times = _times(texts, reader, embedder)
            reranking = _rerank_times(texts[:20], reader, embedder)
            reader.close()
        bars += [
            Bar(what=f"{size:,} chunks: a question, p95", value=_p95(times.whole), unit="ms", at_most=most),
            Bar(
                what=f"{size:,} chunks: its engine part, median", value=_median(times.engine), unit="ms", at_most=ENGINE
            ),
        ]
        figures[f"{size:,} chunks"] = (
            f"question median {_median(times.whole):.1f} ms ({times.processor:.1f} ms of processor time; new index: "
            f"{_median(first.whole):.1f} ms, p95 {_p95(first.whole):.1f} ms), "
            f"engine p95 {_p95(times.engine):.1f} ms, "
            f"MaxSim of 20 hits p95 {_p95(reranking):.0f} ms"
        )
    bars.append(Bar(what="MaxSim re-ranking of 20 hits, median", value=_median(reranking), unit="ms", at_most=RERANKED))
    return Benchmark(name="retrieval", bars=tuple(bars), figures=figures)


class Times(NamedTuple):
    """Milliseconds of each whole question and of its engine part (dense and BM25, filtered, payloads decoded), and
    the processor's time per question, which says how busy the machine was with other things."""

    whole: list[float]
    engine: list[float]
    processor: float


def _times(questions: Sequence[str], reader: VectorReader, embedder: Embedder) -> Times:
    config = RetrievalConfig(rerank="none")

    def ask(question: str) -> FoundPassages:
        where = Where(author_id=_author(len(question)).id)
        return find_passages(
            ParsedQuestion(queries=(question,), where=where), embedder=embedder, reader=reader, config=config
        )

    for question in questions[:10]:
        ask(question)
    whole, engine = [], []
    processor = time.process_time()
    for question in questions:
        started = time.perf_counter()
        found = ask(question)
        whole.append(1000 * (time.perf_counter() - started))
        engine.append(1000 * float(found.facts["seconds_searching"]))
    return Times(whole, engine, 1000 * (time.process_time() - processor) / len(questions))


def _rerank_times(questions: Sequence[str], reader: VectorReader, embedder: TokenEmbedder) -> list[float]:
    """Nothing is remembered, so every passage is embedded again."""
    reranker = MaxSimReranker(embedder, remember=0)
    config = RetrievalConfig(rerank="maxsim", rerank_top=20)
    spent = []
    for question in questions:
        found = find_passages(
            ParsedQuestion(queries=(question,)), embedder=embedder, reader=reader, reranker=reranker, config=config
        )
        spent.append(1000 * float(found.facts["seconds_reranking"]))
    return spent[2:]


def _median(times: Sequence[float]) -> float:
    return statistics.median(times)


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


# --- made up chunks ---


def _words() -> list[str]:
    """Of the encoder's own vocabulary, so that made up text has as many tokens as real text of its length."""
    folder = local_folder(MODEL)
    if folder is None:
        raise ConfigError(f"the package that ships {MODEL} is not installed: poetry install --with ml")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    known = sorted(word for word in tokenizer["model"]["vocab"] if word.isalpha() and len(word) > 2)
    return Random(4).sample(known, WORDS)


def _author(i: int) -> Author:
    return Author(name=f"Author {i % AUTHORS}")


def _fill(
    store: EdgeVectorStore, embedding: EmbeddingSpec, size: int, words: Sequence[str], weights: Sequence[float]
) -> None:
    import numpy as np

    rng, draw = np.random.default_rng(5), Random(6)
    authors = [_author(i) for i in range(AUTHORS)]
    with store.writer(IndexSpec(embedding=embedding)) as writer:
        for at in range(0, size, BATCH):
            rows = rng.standard_normal((min(BATCH, size - at), embedding.size), np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            chunks = [
                _chunk(at + i, authors, draw.choices(words, weights, k=draw.randint(*LENGTHS)))
                for i in range(len(rows))
            ]
            new = [EmbeddedChunk(*pair) for pair in zip(chunks, rows, strict=True)]
            writer.replace(sorted({chunk.document_id for chunk in chunks}), new, [])
            writer.checkpoint(str(at))  # as the features pipeline does
        writer.publish()


def _chunk(i: int, authors: Sequence[Author], words: Sequence[str]) -> Chunk:
    document, part = divmod(i, PER_DOCUMENT)
    author, text = authors[document % AUTHORS], " ".join(words)
    link = f"https://example.com/{document}"
    document_id = stable_id("document", link)
    return Chunk(
        id=stable_id("chunk", document_id, str(part)),
        document_id=document_id,
        content_hash=content_hash(link),
        link=link,
        url=link,
        title=f"Page {document} on {words[0]}",
        author_id=author.id,
        author_name=author.name,
        kind=Kind.ARTICLE,
        source="web_article",
        headings=(f"Page {document}", words[1]),
        text=text,
        window=text,
        start=part * 2000,
        end=part * 2000 + len(text),
        tokens=len(words) + 2,
    )
