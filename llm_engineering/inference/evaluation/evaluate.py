"""Retrieval on questions whose answer is known, in every setting, with intervals."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from time import perf_counter
from typing import NamedTuple

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ports import Embedder, LanguageModel, Reranker, VectorReader, VectorStore
from llm_engineering.domain.statistics import Bootstrap
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.evaluation.cached import CachedReader, CachedReranker
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.golden import GoldenSet, golden_set, with_version
from llm_engineering.inference.evaluation.grid import settings_grid
from llm_engineering.inference.evaluation.measures import DEPTH, MEASURES, measure_one
from llm_engineering.inference.evaluation.questions import generate_questions
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.inference.evaluation.summary import CHOSEN_BY, Measurements, Values
from llm_engineering.inference.retrieval.retrieve import Searcher, rerank, search_all

BATCH_SIZE = 64  # chunks per call of the embedder, questions per call of the engine

OnProgress = Callable[[str], None]


def evaluate_retrieval(
    *,
    reader: VectorReader,
    embedder: Embedder,
    scratch: VectorStore,
    rerankers: Mapping[str, Reranker],
    config: RetrievalEvaluationConfig,
    model: LanguageModel | None = None,
    on_progress: OnProgress = lambda line: None,
) -> RetrievalReport:
    """Every setting on questions made from what `reader` holds.

    `scratch` is an empty store, filled with the passages without their titles and headings. `rerankers` are tried by
    name. `model`, when generative, writes `config.generated` questions too. Raises LLMTwinError when the corpus gives
    too few questions.
    """
    started = perf_counter()
    searched, golden = _golden_set(reader, model, config)
    _check_halves(golden)
    on_progress(f"{len(golden.queries)} questions, {len(searched)} passages")
    index_passages(scratch, searched, embedder, on_progress)
    settings = settings_grid(config.retrieval, rerankers)
    vectors = list(embedder.embed([query.text for query in golden.queries]))
    cached_rerankers = {name: CachedReranker(reranker) for name, reranker in rerankers.items()}
    values: dict[tuple[str, bool], Values] = {}
    with closing(scratch.reader(IndexSpec(embedding=embedder.spec))) as scratch_reader:
        searcher = CachedReader(scratch_reader)
        for name, setting in settings.items():
            ranking = Ranking(searcher, cached_rerankers.get(setting.rerank), setting)
            for filtered in (False, True):
                values[name, filtered] = _measure(golden, ranking.rank_all(golden, vectors, filtered=filtered))
            on_progress(f"{name}: mrr@10 {sum(values[name, False][CHOSEN_BY]) / len(golden.queries):.3f}")
    bootstrap = Bootstrap(resamples=config.resamples, seed=config.seed)
    measured = Measurements(golden=golden, searched=searched, settings=settings, values=values, bootstrap=bootstrap)
    return measured.report(embedder=embedder.spec.model_id, seconds=perf_counter() - started)


def _golden_set(
    reader: VectorReader, model: LanguageModel | None, config: RetrievalEvaluationConfig
) -> tuple[list[Chunk], GoldenSet]:
    searched, golden = golden_set(
        sample_documents(reader, max_chunks=config.chunks, seed=config.seed),
        queries=config.queries,
        dropout=config.dropout,
        seed=config.seed,
    )
    if model is not None and model.generative and config.generated:
        written = generate_questions(searched, model=model, count=config.generated, seed=config.seed)
        golden = with_version(searched, [*golden.queries, *written])
    return searched, golden


def sample_documents(reader: VectorReader, *, max_chunks: int, seed: int) -> Iterator[Chunk]:
    """Whole documents, drawn by the seed, of together at most `max_chunks` chunks; always at least two."""
    sizes = Counter(chunk.document_id for chunk in reader.sample())
    drawn, total = [], 0
    for document_id in sorted(sizes, key=lambda one: content_hash(str(seed), one)):
        if total + sizes[document_id] <= max_chunks or len(drawn) < 2:
            drawn.append(document_id)
            total += sizes[document_id]
    if len(drawn) == len(sizes):
        yield from reader.sample()
        return
    for at in range(0, len(drawn), 500):
        yield from reader.sample(Where(document_id=tuple(drawn[at : at + 500])))


def _check_halves(golden: GoldenSet) -> None:
    halves = Counter(query.half for query in golden.queries)
    if not (halves["choose"] and halves["measure"]):
        raise LLMTwinError(
            f"the index gives too few questions to evaluate with ({halves['choose']} to choose by, "
            f"{halves['measure']} to measure with): crawl more documents, run `poe run-features`, and try again"
        )


def index_passages(store: VectorStore, chunks: Sequence[Chunk], embedder: Embedder, on_progress: OnProgress) -> None:
    """Longest first, so that each batch holds chunks of about one length."""
    by_length = sorted(chunks, key=lambda chunk: -len(chunk.text))
    embedded: list[EmbeddedChunk] = []
    for at in range(0, len(by_length), BATCH_SIZE):
        batch = by_length[at : at + BATCH_SIZE]
        rows = embedder.embed([chunk.text for chunk in batch])
        embedded += [EmbeddedChunk(*pair) for pair in zip(batch, rows, strict=True)]
        on_progress(f"embedding {len(embedded)} of {len(by_length)} passages")
    with store.writer(IndexSpec(embedding=embedder.spec)) as writer:
        writer.replace(sorted({chunk.document_id for chunk in chunks}), embedded, [])
        writer.publish()


class Ranking(NamedTuple):
    """How passages are ranked in one setting."""

    searcher: Searcher
    reranker: Reranker | None
    config: RetrievalConfig

    def rank_all(self, golden: GoldenSet, vectors: Sequence[Iterable[float]], *, filtered: bool) -> list[list[str]]:
        """For each question the ids of its best chunks, best first; `filtered` by the author of the answer.

        `vectors` has a row for each question."""
        by_author: dict[str | None, list[int]] = defaultdict(list)
        for i, query in enumerate(golden.queries):
            by_author[query.author_id if filtered else None].append(i)
        rankings: list[list[str]] = [[] for _ in golden.queries]
        for author_id, rows in by_author.items():
            where = Where(author_id=author_id) if author_id else None
            for at in range(0, len(rows), BATCH_SIZE):
                batch = rows[at : at + BATCH_SIZE]
                texts = [golden.queries[i].text for i in batch]
                for i, ids in zip(batch, self._rank(texts, [vectors[i] for i in batch], where), strict=True):
                    rankings[i] = ids
        return rankings

    def _rank(
        self, texts: Sequence[str], vectors: Sequence[Iterable[float]], where: Where | None
    ) -> Iterator[list[str]]:
        found = search_all(texts, vectors, reader=self.searcher, where=where, config=self.config)
        for text, (hits, _) in zip(texts, found, strict=True):
            ranked = rerank(text, hits, reranker=self.reranker, config=self.config) if self.reranker else hits
            yield [hit.chunk.id for hit in ranked[:DEPTH]]


def _measure(golden: GoldenSet, rankings: Sequence[Sequence[str]]) -> Values:
    measured = [measure_one(ranking, set(q.relevant)) for q, ranking in zip(golden.queries, rankings, strict=True)]
    return {name: [one[name] for one in measured] for name in MEASURES}
