"""The evaluation of retrieval on an opened platform, and the run that later ones are compared with."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.bootstrap import Platform, build_language_model, build_reranker, build_vector_store
from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.inference.evaluation.comparison import Comparison, compare
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import evaluate_retrieval
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.settings import Settings

MOST_REMEMBERED = 4000  # passages by late interaction; their token vectors take up to 0.2 MB each


def evaluate_on(
    platform: Platform, config: RetrievalEvaluationConfig, on_progress: Callable[[str], None] = lambda line: None
) -> RetrievalReport:
    """Of what is published; the passages without their headings live in a temporary folder meanwhile.

    Raises EmbeddingMismatch, LLMTwinError when too little is indexed, ConfigError when a re-ranker cannot be had,
    ModelUnavailable when questions were to be generated.
    """
    reader = open_index(platform.vectors, embedder=platform.embedder)
    try:
        with tempfile.TemporaryDirectory(prefix="llm-twin-evaluation-") as folder:
            return evaluate_retrieval(
                reader=reader,
                embedder=platform.embedder,
                scratch=build_vector_store(Settings(vectors=f"edge:///{folder}/vectors")),
                rerankers=rerankers(platform, config),
                config=config,
                model=build_language_model(platform.settings) if config.generated else None,
                on_progress=on_progress,
            )
    finally:
        reader.close()


def rerankers(platform: Platform, config: RetrievalEvaluationConfig) -> dict:
    """MaxSim, and the cross-encoder when the config names one."""
    names = ["maxsim", "cross-encoder"] if config.retrieval.cross_encoder else ["maxsim"]
    found = {}
    for name in names:
        chosen = config.retrieval.model_copy(update={"rerank": name})
        found[name] = build_reranker(
            platform.settings, chosen, platform.embedder, remember=min(config.chunks, MOST_REMEMBERED)
        )
        found[name].scores("loaded", ["before anything is measured"])
    return found


def judge(report: RetrievalReport, config: RetrievalEvaluationConfig, settings: Settings) -> Comparison:
    return compare(report, accepted_report(settings), tolerance=config.tolerance)


def accepted_file(settings: Settings) -> Path:
    return settings.home / "evaluation" / "retrieval-accepted.json"


def accepted_report(settings: Settings) -> RetrievalReport | None:
    """Raises ConfigError when the file is not one of ours any more."""
    file = accepted_file(settings)
    try:
        return RetrievalReport.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is not a report of this version: remove it, and accept a new run with "
            "`poe eval-retrieval --accept`"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be read: {error.strerror}") from error


def accept(report: RetrievalReport, settings: Settings) -> Path:
    """Whole or not at all. Raises StoreUnavailable."""
    file = accepted_file(settings)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(report.model_dump_json(indent=1), encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be written: {error.strerror}") from error
    return file
