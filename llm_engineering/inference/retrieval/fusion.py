"""Ranked lists into one: by weighted scores, or by reciprocal ranks."""

from collections.abc import Sequence

from llm_engineering.domain.chunks import Chunk, Hit

RRF_K = 60  # Cormack et al., "Reciprocal Rank Fusion", SIGIR 2009


def blended(dense: Sequence[Hit], bm25: Sequence[Hit], *, dense_weight: float, bm25_weight: float) -> list[Hit]:
    """Cosine and BM25 (as a share of the best BM25 score of this question), weighted and added.

    A hit that one list does not hold gets the lowest score of that list (Bruch et al., "An Analysis of Fusion
    Functions for Hybrid Retrieval", TOIS 2023). Either list may be empty.
    """
    best = max((hit.score for hit in bm25), default=0.0) or 1.0
    near = {hit.chunk.id: hit.score for hit in dense}
    words = {hit.chunk.id: hit.score / best for hit in bm25}
    far, few = min(near.values(), default=0.0), min(words.values(), default=0.0)
    chunks = {hit.chunk.id: hit.chunk for hit in (*dense, *bm25)}
    return ordered(
        [
            Hit(chunk=chunk, score=dense_weight * near.get(key, far) + bm25_weight * words.get(key, few))
            for key, chunk in chunks.items()
        ]
    )


def fuse(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """One list out of several: each hit scores the sum of 1 / (RRF_K + rank). A single list stays as it is."""
    if len(lists) == 1:
        return list(lists[0])
    scores: dict[str, float] = {}
    chunks: dict[str, Chunk] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (RRF_K + rank)
            chunks[hit.chunk.id] = hit.chunk
    return ordered([Hit(chunk=chunks[key], score=score) for key, score in scores.items()])


def ordered(hits: Sequence[Hit]) -> list[Hit]:
    """Best first; equal scores by id, so that the same question always gets the same answer."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id))


def reordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """The same hits by their new scores."""
    return ordered([Hit(chunk=hit.chunk, score=score) for hit, score in zip(hits, scores, strict=True)])
