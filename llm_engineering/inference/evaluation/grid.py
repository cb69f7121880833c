"""The retrieval settings that an evaluation tries."""

from collections.abc import Collection

from llm_engineering.inference.config import RetrievalConfig

CONFIGURED = "configured"  # the name of the setting that questions are answered with
DENSE = "dense"  # the one that others are compared with

_HYBRIDS = (("rrf", "ranks", 1.0), ("rrf", "ranks", 0.5), ("scores", "scores", 1.0), ("scores", "scores", 0.7))
_HYBRIDS += (("scores", "scores", 0.4),)


def settings_grid(configured: RetrievalConfig, rerankers: Collection[str]) -> dict[str, RetrievalConfig]:
    """name -> setting: dense, BM25 and their fusions, each alone and re-ranked, and the configured one."""
    rankings: dict[str, dict[str, object]] = {
        DENSE: {"dense": True, "bm25": False},
        "bm25": {"dense": False, "bm25": True},
    }
    for fusion, of, weight in _HYBRIDS:
        both = {"dense": True, "bm25": True, "dense_weight": 1.0}
        rankings[f"hybrid, {of} 1:{weight:g}"] = both | {"fusion": fusion, "bm25_weight": weight}
    settings = {}
    for name, fields in rankings.items():
        for reranker in ("none", *rerankers):
            full_name = name if reranker == "none" else f"{name} + {reranker}"
            settings[full_name] = configured.model_copy(update=fields | {"rerank": reranker})
    return settings | {CONFIGURED: configured}
