"""One sparse encoder for every adapter, for passages and for questions.

The words of a text become 32-bit indices and BM25 term weights (Robertson & Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, eq. 3.15):

    weight(t) = tf * (K1 + 1) / (tf + K1 * (1 - B + B * words / AVERAGE_WORDS))

The other factor, IDF, is the engine's (`modifier: idf`), so it is always that of the index as it is now. The average
length is fixed: were it measured, one new document would change the weights of all.
"""

import re
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.prose import CJK, stem

K1 = 1.2
B = 0.75
AVERAGE_WORDS = 180  # measured: 186 in 1,114 passages of 1,000 characters of web articles; a full passage is about that

_TOKEN = re.compile(rf"[{CJK}]|[^\W{CJK}]+")  # an index holds what these give: it must be rebuilt when they change
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")  # of HTTPServer_v2: HTTP, Server, v, 2


class Sparse(NamedTuple):
    indices: list[int]
    values: list[float]


def passage_text(chunk: Chunk) -> str:
    """What BM25 sees of a chunk: the title and the headings too, since a passage seldom repeats what it is about."""
    return "\n".join((chunk.title, *chunk.headings, chunk.text))


def encode_passage(text: str) -> Sparse:
    """BM25 weights without IDF, in the order of first appearance."""
    counts = _counts(text)
    length = K1 * (1 - B + B * counts.total() / AVERAGE_WORDS)
    return Sparse(list(counts), [count * (K1 + 1) / (count + length) for count in counts.values()])


def encode_question(text: str) -> Sparse:
    """Every distinct word weighs 1; empty when the text holds no word."""
    indices = list(_counts(text))
    return Sparse(indices, [1.0] * len(indices))


def index_of(word: str) -> int:
    """Two words may share one of the 2**32 indices; then they count as one word."""
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _counts(text: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for token, count in Counter(_TOKEN.findall(text)).items():
        for index in _indices(token):
            counts[index] += count
    return counts


@lru_cache(maxsize=100_000)
def _indices(token: str) -> tuple[int, ...]:
    """Of its English stem in lower case; of `parse_url` and `parseUrl` also those of `pars` and `url`."""
    parts = _PART.findall(token)
    forms = [token, *parts] if len(parts) > 1 else [token]
    return tuple(index_of(stem(form.lower())) for form in forms)
