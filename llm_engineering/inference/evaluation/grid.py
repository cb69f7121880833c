"""The retrieval settings that an evaluation tries."""

from collections.abc import Collection

from llm_engineering.inference.config import RetrievalConfig

CONFIGURED = "configured"  # the name of the setting that questions are answered with
DENSE = "dense"  # the one that others are compared with

# what is fused, and the weight of BM25 beside dense
_HYBRIDS = (("ranks", 1.0), ("ranks", 0.5), ("scores", 1.0), ("scores", 0.7), ("scores", 0.4))


def settings_grid(configured: RetrievalConfig, rerankers: Collection[str]) -> dict[str, RetrievalConfig]:
    """name -> setting: dense, BM25 and their fusions, each alone and re-ranked, and the configured one."""
    rankings: dict[str, dict[str, object]] = {
        DENSE: {"dense": True, "bm25": False},
        "bm25": {"dense": False, "bm25": True},
    }
    for fused, weight in _HYBRIDS:
        fields = {"dense": True, "bm25": True, "dense_weight": 1.0, "bm25_weight": weight}
        rankings[f"hybrid, {fused} 1:{weight:g}"] = fields | {"fusion": "rrf" if fused == "ranks" else "scores"}
    settings = {}
    for name, fields in rankings.items():
        for reranker in ("none", *rerankers):
            full_name = name if reranker == "none" else f"{name} + {reranker}"
            settings[full_name] = configured.model_copy(update=fields | {"rerank": reranker})
    return settings | {CONFIGURED: configured}
