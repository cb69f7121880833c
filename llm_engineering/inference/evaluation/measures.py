"""How good rankings are. Pure functions over ranks."""

from collections.abc import Collection, Sequence
from math import log2

MEASURES = ("hit@1", "hit@5", "mrr@10", "ndcg@10")
DEPTH = 10


def measure_one(ranking: Sequence[str], relevant: Collection[str]) -> dict[str, float]:
    """hit@1, hit@5, MRR@10 (Voorhees, TREC-8, 1999) and nDCG@10 with binary gains (Järvelin & Kekäläinen, 2002)."""
    right = [one in relevant for one in ranking[:DEPTH]]
    first = right.index(True) + 1 if any(right) else 0
    gained = sum(1 / log2(rank + 1) for rank, good in enumerate(right, start=1) if good)
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(len(relevant), DEPTH) + 1))
    return {
        "hit@1": float(first == 1),
        "hit@5": float(0 < first <= 5),
        "mrr@10": 1 / first if first else 0.0,
        "ndcg@10": gained / ideal if ideal else 0.0,
    }
