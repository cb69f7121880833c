"""From ranked hits to the few passages worth reading: repeats collapsed, diverse, and within the token budget."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.chunks import Hit

SHINGLE = 3  # words
_WORD = re.compile(r"\w+")


# --- near-duplicates and neighbours ---


@dataclass(frozen=True)
class HitWindow:
    """A hit and what a reader would see of it: `text` stands at `start` of the cleaned document."""

    hit: Hit
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def hit_window(hit: Hit) -> HitWindow:
    """The window around the passage; the passage alone where the window does not hold it."""
    chunk = hit.chunk
    text = chunk.text.strip()
    before = chunk.start + len(chunk.text) - len(chunk.text.lstrip())
    at = chunk.window.find(text) if text else -1
    return HitWindow(hit, chunk.window, before - at) if at >= 0 else HitWindow(hit, chunk.text, chunk.start)


def collapse_duplicates(hits: Sequence[Hit], *, above: float, enough: int | None = None) -> list[HitWindow]:
    """Best first, and no further than `enough` of them. What repeats a better one is dropped, and neighbours that
    overlap are joined into the better one.

    Two texts repeat each other when they share more than `above` of their shingles (Jaccard; Broder, "On the
    resemblance and containment of documents", 1997). Joining never makes more than twice the longer window.
    """
    kept: list[HitWindow] = []
    kept_shingles: list[frozenset] = []
    for hit in hits:
        new, own = hit_window(hit), shingles(hit.chunk.text)
        if any(similarity(own, other) > above for other in kept_shingles):
            continue
        for i, other in enumerate(kept):
            if (merged := _merge_neighbours(other, new)) is not None:
                kept[i] = merged
                break
        else:
            kept.append(new)
            kept_shingles.append(own)
        if len(kept) == enough:
            break
    return kept


def _merge_neighbours(better: HitWindow, other: HitWindow) -> HitWindow | None:
    """`better` with the text of its neighbour; None where they do not overlap, or not as the same text."""
    if better.hit.chunk.document_id != other.hit.chunk.document_id:
        return None
    if better.hit.chunk.content_hash != other.hit.chunk.content_hash:
        return None
    first, second = (better, other) if better.start <= other.start else (other, better)
    shared = first.end - second.start
    if shared <= 0 or first.text[second.start - first.start :][: len(second.text)] != second.text[:shared]:
        return None
    text = first.text + second.text[shared:]
    if len(text) > 2 * max(len(better.hit.chunk.window), len(other.hit.chunk.window)):
        return None
    return replace(better, text=text, start=first.start)


def shingles(text: str) -> frozenset:
    """Runs of SHINGLE words; the words themselves where there are fewer."""
    words = _WORD.findall(text.lower())
    if len(words) < SHINGLE:
        return frozenset(words)
    return frozenset(zip(*(words[i:] for i in range(SHINGLE)), strict=False))


def similarity(one: frozenset, other: frozenset) -> float:
    """Jaccard; 0 for two empty ones."""
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


# --- diversity ---


def diversify(items: Sequence[HitWindow], *, weight: float, count: int) -> list[HitWindow]:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): pick what is relevant and unlike what is picked.

    Relevance is the score scaled to 0…1, likeness the share of common words. `weight` 0 keeps the order.
    """
    if not weight or len(items) < 2:
        return list(items[:count])
    scores = [item.hit.score for item in items]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    relevance = [(score - low) / span for score in scores]
    words = [frozenset(_WORD.findall(item.hit.chunk.text.lower())) for item in items]
    left, picked = list(range(len(items))), []

    def marginal_relevance(i: int) -> float:
        most_similar = max((similarity(words[i], words[j]) for j in picked), default=0.0)
        return (1 - weight) * relevance[i] - weight * most_similar

    while left and len(picked) < count:
        best = max(left, key=lambda i: (marginal_relevance(i), -i))
        picked.append(best)
        left.remove(best)
    return [items[i] for i in picked]


# --- the budget ---


def fit_token_budget(
    items: Sequence[HitWindow], *, budget: int, count_tokens: Callable[[Sequence[str]], list[int]]
) -> tuple[Passage, ...]:
    """Numbered from 1, best first, together at most `budget` tokens.

    A window that no longer fits is cut down to the passage itself; when that does not fit either, nothing weaker is
    taken in its place. The best passage is always there, cut at its end where it must be.
    """
    sizes = count_tokens([text for item in items for text in (item.text, item.hit.chunk.text)])
    passages: list[Passage] = []
    left = budget
    for number, item in enumerate(items, start=1):
        whole, alone = sizes[2 * number - 2 : 2 * number]
        text, size = (item.text, whole) if whole <= left else (item.hit.chunk.text, alone)
        if size > left and number == 1:
            text = _truncate(text, left, count_tokens)
            size = left
        if size > left:
            break
        passages.append(Passage(number=number, chunk=item.hit.chunk, score=item.hit.score, text=text))
        left -= size
    return tuple(passages)


def _truncate(text: str, budget: int, count_tokens: Callable[[Sequence[str]], list[int]]) -> str:
    """The longest beginning of at most `budget` tokens, to the nearest character."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens([text[:middle]])[0] <= budget:
            low = middle
        else:
            high = middle - 1
    return text[:low]
