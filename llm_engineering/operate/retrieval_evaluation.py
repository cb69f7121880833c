"""The evaluation of retrieval on an opened platform, and the run that later ones are compared with."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.bootstrap import Platform, build_reranker, build_vector_store
from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.domain.ports import Reranker
from llm_engineering.inference.evaluation.comparison import compare
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.evaluate import evaluate_retrieval
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.files import reason_of, write_whole
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder
from llm_engineering.settings import Settings

MOST_REMEMBERED = 4000  # passages by late interaction; their token vectors take up to 0.2 MB each


def evaluate_published(
    platform: Platform, config: RetrievalEvaluationConfig, on_progress: Callable[[str], None] = lambda line: None
) -> RetrievalReport:
    """Every setting on questions made from what is published, compared with the accepted run: `red` when it is worse.

    The passages without their headings live in a temporary folder meanwhile. Raises EmbeddingMismatch, LLMTwinError
    when too little is indexed, ConfigError when a re-ranker cannot be had, ModelUnavailable when questions were to be
    generated.
    """
    reader = open_index(platform.vectors, embedder=platform.embedder)
    try:
        with TemporaryFolder("evaluation") as folder:
            report = evaluate_retrieval(
                reader=reader,
                embedder=platform.embedder,
                scratch=build_vector_store(Settings(vectors=f"edge:///{folder}/vectors")),
                rerankers=_rerankers(platform, config),
                config=config,
                model=platform.language_model if config.generated else None,
                on_progress=on_progress,
            )
    finally:
        reader.close()
    comparison = compare(report, accepted_report(platform.settings), tolerance=config.tolerance)
    return report.model_copy(update={"red": comparison.red, "note": comparison.note})


def _rerankers(platform: Platform, config: RetrievalEvaluationConfig) -> dict[str, Reranker]:
    """MaxSim, and the cross-encoder when the config names one; loaded before anything is measured."""
    names = ["maxsim", "cross-encoder"] if config.retrieval.cross_encoder else ["maxsim"]
    found = {}
    for name in names:
        chosen = config.retrieval.model_copy(update={"rerank": name})
        remember = min(config.chunks, MOST_REMEMBERED)
        if reranker := build_reranker(platform.settings, chosen, platform.embedder, remember=remember):
            reranker.scores("loaded", ["before anything is measured"])
            found[name] = reranker
    return found


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
        raise StoreUnavailable(f"{file} cannot be read: {reason_of(error)}") from error


def accept(report: RetrievalReport, settings: Settings) -> Path:
    """Whole or not at all. Raises StoreUnavailable."""
    file = accepted_file(settings)
    try:
        write_whole(file, report.model_dump_json(indent=1))
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be written: {reason_of(error)}") from error
    return file
