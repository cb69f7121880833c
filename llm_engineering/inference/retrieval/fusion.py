"""Ranked lists into one: by weighted scores, or by reciprocal ranks."""

from collections.abc import Sequence

from llm_engineering.domain.chunks import Chunk, Hit

RRF_K = 60  # Cormack et al., "Reciprocal Rank Fusion", SIGIR 2009


def fuse_scores(dense: Sequence[Hit], bm25: Sequence[Hit], *, dense_weight: float, bm25_weight: float) -> list[Hit]:
    """Cosine and BM25 (as a share of the best BM25 score of this question), weighted and added.

    A hit that one list does not hold gets the lowest score of that list (Bruch et al., "An Analysis of Fusion
    Functions for Hybrid Retrieval", TOIS 2023). Either list may be empty.
    """
    best = max((hit.score for hit in bm25), default=0.0) or 1.0
    cosines = {hit.chunk.id: hit.score for hit in dense}
    shares = {hit.chunk.id: hit.score / best for hit in bm25}
    lowest_cosine, lowest_share = min(cosines.values(), default=0.0), min(shares.values(), default=0.0)
    chunks = {hit.chunk.id: hit.chunk for hit in (*dense, *bm25)}
    return best_first(
        [
            Hit(
                chunk=chunk,
                score=dense_weight * cosines.get(key, lowest_cosine) + bm25_weight * shares.get(key, lowest_share),
            )
            for key, chunk in chunks.items()
        ]
    )


def fuse_ranks(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """One list out of several: each hit scores the sum of 1 / (RRF_K + rank). A single list stays as it is."""
    if len(lists) == 1:
        return list(lists[0])
    scores: dict[str, float] = {}
    chunks: dict[str, Chunk] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (RRF_K + rank)
            chunks[hit.chunk.id] = hit.chunk
    return best_first([Hit(chunk=chunks[key], score=score) for key, score in scores.items()])


def best_first(hits: Sequence[Hit]) -> list[Hit]:
    """Best first; equal scores by id, so that the same question always gets the same answer."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id))


def rescored(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """The same hits by their new scores."""
    return best_first([Hit(chunk=hit.chunk, score=score) for hit, score in zip(hits, scores, strict=True)])
