"""Retrieval on questions whose answer is known, in every setting, with intervals."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ports import Embedder, LanguageModel, Reranker, VectorReader, VectorStore
from llm_engineering.domain.statistics import difference, mean, relative_gain
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.inference.evaluation.cached import CachedReader, CachedReranker
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.golden import GoldenQuery, GoldenSet, golden_set, with_version
from llm_engineering.inference.evaluation.measures import DEPTH, MEASURES, measure_one
from llm_engineering.inference.evaluation.questions import generated
from llm_engineering.inference.evaluation.report import RetrievalReport, Scores
from llm_engineering.inference.retrieval.retrieve import rerank, search_all

TOGETHER = 64  # chunks per call of the embedder, questions per call of the engine
CONFIGURED = "configured"

Tell = Callable[[str], None]
Values = dict[str, list[float]]  # measure -> one number per question


def evaluate_retrieval(
    *,
    reader: VectorReader,
    embedder: Embedder,
    scratch: VectorStore,
    rerankers: Mapping[str, Reranker],
    config: RetrievalEvaluationConfig,
    model: LanguageModel | None = None,
    on_progress: Tell = lambda line: None,
) -> RetrievalReport:
    """Every setting on questions made from what `reader` holds.

    `scratch` is an empty store, filled with the passages without their titles and headings. `rerankers` are tried by
    name. `model`, when generative, writes `config.generated` questions too. Raises LLMTwinError when the corpus gives
    too few questions.
    """
    started = perf_counter()
    searched, golden = golden_set(
        bounded(reader, most=config.chunks, seed=config.seed),
        queries=config.queries,
        dropout=config.dropout,
        seed=config.seed,
    )
    if model is not None and model.generative and config.generated:
        written = generated(searched, model=model, count=config.generated, seed=config.seed)
        golden = with_version(searched, [*golden.queries, *written])
    _check(golden)
    on_progress(f"{len(golden.queries)} questions, {len(searched)} passages")
    _fill(scratch, searched, embedder, on_progress)
    settings = settings_to_try(config.retrieval, list(rerankers))
    vectors = embedder.embed([query.text for query in golden.queries])
    again = {name: CachedReranker(reranker) for name, reranker in rerankers.items()}
    asked = scratch.reader(IndexSpec(embedding=embedder.spec))
    try:
        once = CachedReader(asked)
        values = {}
        for name, setting in settings.items():
            for filtered in (False, True):
                reranker = again.get(setting.rerank)
                rankings = rank_all(golden, vectors, reader=once, reranker=reranker, config=setting, filtered=filtered)
                values[name, filtered] = _measured(golden, rankings)
            on_progress(f"{name}: mrr@10 {sum(values[name, False]['mrr@10']) / len(golden.queries):.3f}")
    finally:
        asked.close()
    return _report(golden, searched, embedder, settings, values, config, perf_counter() - started)


def bounded(reader: VectorReader, *, most: int, seed: int) -> Iterator[Chunk]:
    """Whole documents, drawn by the seed, of together at most `most` chunks; always at least two."""
    sizes = Counter(chunk.document_id for chunk in reader.sample())
    taken, total = [], 0
    for document_id in sorted(sizes, key=lambda one: content_hash(str(seed), one)):
        if total + sizes[document_id] <= most or len(taken) < 2:
            taken.append(document_id)
            total += sizes[document_id]
    if len(taken) == len(sizes):
        yield from reader.sample()
    for at in range(0, len(taken) if len(taken) < len(sizes) else 0, 500):
        yield from reader.sample(Where(document_id=tuple(taken[at : at + 500])))


def _check(golden: GoldenSet) -> None:
    halves = Counter(query.half for query in golden.queries)
    if not (halves["choose"] and halves["measure"]):
        raise LLMTwinError(
            f"the index gives too few questions to evaluate with ({halves['choose']} to choose by, "
            f"{halves['measure']} to measure with): crawl more documents, run `poe run-features`, and try again"
        )


def _fill(store: VectorStore, chunks: Sequence[Chunk], embedder: Embedder, tell: Tell) -> None:
    """Longest first, so that each batch holds chunks of about one length."""
    ordered = sorted(chunks, key=lambda chunk: -len(chunk.text))
    embedded: list[EmbeddedChunk] = []
    for at in range(0, len(ordered), TOGETHER):
        batch = ordered[at : at + TOGETHER]
        rows = embedder.embed([chunk.text for chunk in batch])
        embedded += [EmbeddedChunk(*pair) for pair in zip(batch, rows, strict=True)]
        tell(f"embedding {len(embedded)} of {len(ordered)} passages")
    with store.writer(IndexSpec(embedding=embedder.spec)) as writer:
        writer.replace(sorted({chunk.document_id for chunk in chunks}), embedded, [])
        writer.publish()


def settings_to_try(configured: RetrievalConfig, rerankers: Sequence[str]) -> dict[str, RetrievalConfig]:
    """name -> setting: dense, BM25 and their fusions, each alone and re-ranked, and the configured one."""
    both = {"dense": True, "bm25": True, "dense_weight": 1.0}
    ways = {
        "dense": {"dense": True, "bm25": False},
        "bm25": {"dense": False, "bm25": True},
        "hybrid, ranks 1:1": both | {"fusion": "rrf", "bm25_weight": 1.0},
        "hybrid, ranks 1:0.5": both | {"fusion": "rrf", "bm25_weight": 0.5},
        "hybrid, scores 1:1": both | {"fusion": "scores", "bm25_weight": 1.0},
        "hybrid, scores 1:0.7": both | {"fusion": "scores", "bm25_weight": 0.7},
        "hybrid, scores 1:0.4": both | {"fusion": "scores", "bm25_weight": 0.4},
    }
    settings = {}
    for way, fields in ways.items():
        for again in ("none", *rerankers):
            name = way if again == "none" else f"{way} + {again}"
            settings[name] = configured.model_copy(update={**fields, "rerank": again})
    return settings | {CONFIGURED: configured}


def rank_all(
    golden: GoldenSet,
    vectors: Sequence[Sequence[float]],
    *,
    reader: "VectorReader | CachedReader",
    reranker: Reranker | None,
    config: RetrievalConfig,
    filtered: bool,
) -> list[list[str]]:
    """`vectors` has a row for each question.

    For each question the ids of its best chunks, best first; `filtered` by the author of the answer."""
    groups: dict[str | None, list[int]] = defaultdict(list)
    for i, query in enumerate(golden.queries):
        groups[query.author_id if filtered else None].append(i)
    rankings: list[list[str]] = [[] for _ in golden.queries]
    for author_id, members in groups.items():
        where = Where(author_id=author_id) if author_id else None
        for at in range(0, len(members), TOGETHER):
            batch = members[at : at + TOGETHER]
            texts = [golden.queries[i].text for i in batch]
            found = search_all(texts, [vectors[i] for i in batch], reader=reader, where=where, config=config)
            for i, text, (hits, _) in zip(batch, texts, found, strict=True):
                ranked = rerank(text, hits, reranker=reranker, config=config) if reranker else hits
                rankings[i] = [hit.chunk.id for hit in ranked[:DEPTH]]
    return rankings


def _measured(golden: GoldenSet, rankings: Sequence[Sequence[str]]) -> Values:
    each = [measure_one(ranking, set(q.relevant)) for q, ranking in zip(golden.queries, rankings, strict=True)]
    return {name: [one[name] for one in each] for name in MEASURES}


# --- the report ---


def _report(golden, searched, embedder, settings, values, config, seconds) -> RetrievalReport:
    scores = [
        _scores(setting, half, slice_name, filtered, of_slice, values, config)
        for (setting, filtered) in values
        for half, slice_name, of_slice in _slices(golden.queries)
    ]
    mrr = {s.setting: s.measures["mrr@10"].value for s in scores if (s.half, s.slice, s.filtered) == _CHOSEN_ON}
    best = max((name for name in mrr if name != CONFIGURED), key=lambda name: mrr[name])
    rows = [i for i, query in enumerate(golden.queries) if query.half == "measure"]
    gain = relative_gain(
        [values[best, False]["mrr@10"][i] for i in rows],
        [values["dense", False]["mrr@10"][i] for i in rows],
        [golden.queries[i].document_id for i in rows],
        resamples=config.resamples,
        seed=config.seed,
    )
    return RetrievalReport(
        golden=golden.version,
        embedder=embedder.spec.model_id,
        seed=config.seed,
        documents=len({chunk.document_id for chunk in searched}),
        chunks=len(searched),
        questions=dict(Counter(query.way for query in golden.queries)),
        settings=settings,
        scores=tuple(scores),
        best=best,
        best_gain=gain,
        configured=CONFIGURED,
        seconds=seconds,
        started_at=datetime.now(UTC) - timedelta(seconds=seconds),
    )


_CHOSEN_ON = ("choose", "all", False)


def _slices(queries: Sequence[GoldenQuery]) -> Iterator[tuple[str, str, list[tuple[int, GoldenQuery]]]]:
    """(half, slice, its questions with their places)"""
    every = list(enumerate(queries))
    for half in ("choose", "measure"):
        yield half, "all", [(i, q) for i, q in every if q.half == half]
    yield "all", "all", every
    for way in sorted({q.way for q in queries}):
        yield "all", f"way: {way}", [(i, q) for i, q in every if q.way == way]
    for kind in sorted({q.kind for q in queries}):
        yield "all", f"kind: {kind}", [(i, q) for i, q in every if q.kind == kind]


def _scores(setting, half, slice_name, filtered, of_slice, values, config) -> Scores:
    groups = [query.document_id for _, query in of_slice]
    sure = {"resamples": config.resamples, "seed": config.seed}

    def of(name: str, measure: str) -> list[float]:
        return [values[name, filtered][measure][i] for i, _ in of_slice]

    return Scores(
        setting=setting,
        half=half,
        slice=slice_name,
        filtered=filtered,
        questions=len(of_slice),
        measures={measure: mean(of(setting, measure), groups, **sure) for measure in MEASURES},
        gain=difference(of(setting, "mrr@10"), of("dense", "mrr@10"), groups, **sure),
    )
