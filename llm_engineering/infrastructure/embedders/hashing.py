"""Vectors without a model: the same in every process and on every machine."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_engineering.domain.chunks import EmbeddingSpec
from llm_engineering.domain.errors import ConfigError
from llm_engineering.infrastructure.embedders.unit_length import unit_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REVISION = "1"  # another one whenever a text gets another vector
_WORD = re.compile(r"\w+")
_SPECIAL_TOKENS = 2  # as other encoders add


class HashingEmbedder:
    """Words hashed into `size` signed buckets (Weinberger et al., "Feature Hashing for Large Scale Multitask
    Learning", 2009), weighted by the root of their count. No model, the same everywhere; finds words, not meanings."""

    def __init__(self, size: int = 256) -> None:
        if not 8 <= size <= 65_536:
            raise ConfigError(f"TWIN_EMBEDDER=hashing:{size}: use a size between 8 and 65536, as hashing:256")
        self.spec = EmbeddingSpec(model_id="hashing", revision=REVISION, size=size, max_tokens=256)

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        rows = np.zeros((len(texts), self.spec.size), np.float32)
        for row, text in zip(rows, texts, strict=True):
            hashes = np.fromiter((_word_hash(word) for word in _WORD.findall(text.lower())), np.uint64)
            buckets = (hashes >> np.uint64(1)) % np.uint64(self.spec.size)
            signs = 1.0 - 2.0 * (hashes & np.uint64(1)).astype(np.float64)
            sums = np.bincount(buckets.astype(np.int64), signs, minlength=self.spec.size)
            row[:] = np.sign(sums) * np.sqrt(np.abs(sums))
        return unit_length(rows)

    def embed_tokens(self, texts: Sequence[str]) -> "list[NDArray[np.float32]]":
        """One (words, spec.size) array per text: each word's bucket and sign."""
        most = self.spec.max_tokens - _SPECIAL_TOKENS
        return [self.embed(_WORD.findall(text)[:most]) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words, and the special tokens."""
        return [len(_WORD.findall(text)) + _SPECIAL_TOKENS for text in texts]


@lru_cache(maxsize=100_000)
def _word_hash(word: str) -> int:
    """Of the word alone, not of the process."""
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
