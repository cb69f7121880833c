"""Questions whose answer is known, made from the corpus itself, without a language model.

The title of a document asks for its passages, a heading for those of its section, and a sentence that lost half of
its words for the passage it stands in. Titles and headings are taken out of what is searched, so that nothing is found
by its own label.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Literal, NamedTuple

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.noun import Noun

Way = Literal["title", "heading", "sentence", "question"]
Half = Literal["choose", "measure"]

MIN_PASSAGE_CHARACTERS = 80  # that are left of a passage; less answers nothing
MAX_SECTION_PASSAGES = 6  # a heading above more than these asks for too much
LABEL_WORDS = (2, 20)  # of a title or heading that makes a question
SENTENCE_WORDS = (9, 40)  # before some are dropped
_LINE = re.compile(r"[^\n]*\n?")
_HEADING = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\w+")


class GoldenQuery(Noun):
    """`relevant` are the ids of the chunks that answer it."""

    text: str
    way: Way
    document_id: str
    author_id: str
    kind: Kind
    half: Half
    relevant: tuple[str, ...]


class GoldenSet(Noun):
    """`version` is a hash of the questions and of everything that is searched."""

    version: str
    queries: tuple[GoldenQuery, ...]


class SearchedChunk(NamedTuple):
    """A chunk as it is searched, without any title or heading."""

    chunk: Chunk
    labels: tuple[str, ...]  # the headings it stands under or holds, as they are compared


def golden_set(chunks: Iterable[Chunk], *, queries: int, dropout: float, seed: int) -> tuple[list[Chunk], GoldenSet]:
    """The passages to be searched, and the questions. The same chunks and seed give the same set."""
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    documents = [without_labels(sorted(of_one, key=lambda c: c.start)) for of_one in by_document.values()]
    originals = {chunk.id: chunk for of_one in by_document.values() for chunk in of_one}
    each = max(1, queries // 3)
    sampled = [
        *_sample(_titles(documents, originals, seed), each, seed),
        *_sample(_headings(documents, originals, seed), each, seed),
        *_sample(_sentences(documents, dropout, seed), each, seed),
    ]
    searched = [one.chunk for document in documents for one in document]
    return searched, with_version(searched, sampled)


def with_version(searched: Sequence[Chunk], queries: Sequence[GoldenQuery]) -> GoldenSet:
    """The golden set of these questions; they are given in any order."""
    parts = sorted(content_hash(chunk.id, chunk.text) for chunk in searched)
    parts += sorted(query.model_dump_json() for query in queries)
    return GoldenSet(version=content_hash(*parts)[:12], queries=tuple(queries))


def half_of(document_id: str, seed: int) -> Half:
    """Settings are chosen on one half of the documents and measured on the other."""
    return "choose" if _hash_number(seed, document_id) % 2 else "measure"


def _hash_number(seed: int, *parts: str) -> int:
    return int(content_hash(str(seed), *parts)[:12], 16)


def _sample(queries: Iterable[GoldenQuery], count: int, seed: int) -> list[GoldenQuery]:
    return sorted(queries, key=lambda q: (_hash_number(seed, q.document_id, q.text), q.text))[:count]


# --- taking the labels out ---


def normalised(text: str) -> str:
    """As labels are compared: lower case words."""
    return " ".join(_WORD.findall(text.lower()))


def without_labels(document: Sequence[Chunk]) -> list[SearchedChunk]:
    """The passages of one document without its title and headings, wherever they stand; emptied ones left out."""
    labels = {normalised(label) for chunk in document for label in (chunk.title, *chunk.headings)}
    labels |= {normalised(line) for chunk in document for line in chunk.text.splitlines() if _HEADING.match(line)}
    labels.discard("")
    pattern = _label_pattern(labels)
    found = []
    for chunk in document:
        lines = _LINE.findall(chunk.text)
        headings = {normalised(line) for line in lines if _HEADING.match(line)}
        text = "".join(line for line in lines if not _HEADING.match(line) and normalised(line) not in labels)
        text = pattern.sub(" ", text) if pattern else text
        if len(text.strip()) >= MIN_PASSAGE_CHARACTERS:
            bare = chunk.model_copy(update={"title": "", "headings": (), "text": text, "window": text})
            found.append(SearchedChunk(bare, tuple(headings | {normalised(heading) for heading in chunk.headings})))
    return found


def _label_pattern(labels: set[str]) -> re.Pattern[str] | None:
    """Finds the labels of three words and more in running text; shorter ones are ordinary words there."""
    long = sorted((label.split() for label in labels if label.count(" ") >= 2), key=len, reverse=True)
    if not long:
        return None
    gap = r"\W+"
    return re.compile("|".join(rf"\b{gap.join(words)}\b" for words in long), re.IGNORECASE)


# --- making questions ---


def _titles(
    documents: Sequence[Sequence[SearchedChunk]], originals: dict[str, Chunk], seed: int
) -> Iterator[GoldenQuery]:
    titles = [originals[document[0].chunk.id].title if document else "" for document in documents]
    counts = Counter(map(normalised, titles))
    for document, title in zip(documents, titles, strict=True):
        if _is_specific(title) and counts[normalised(title)] == 1:
            yield _query(title, "title", document, seed)


def _headings(
    documents: Sequence[Sequence[SearchedChunk]], originals: dict[str, Chunk], seed: int
) -> Iterator[GoldenQuery]:
    """Only those that no other document has, and that are no title."""
    owners: dict[str, set[int]] = defaultdict(set)
    written: dict[str, str] = {}
    for i, document in enumerate(documents):
        for one in document:
            original = originals[one.chunk.id]
            owners[normalised(original.title)] |= {-1, i}
            for heading in original.headings:
                owners[normalised(heading)].add(i)
                written[normalised(heading)] = heading
    for label, owned_by in owners.items():
        if len(owned_by) == 1 and label in written and _is_specific(written[label]):
            section = [one for one in documents[next(iter(owned_by))] if label in one.labels]
            if 0 < len(section) <= MAX_SECTION_PASSAGES:
                yield _query(written[label], "heading", section, seed)


def _sentences(documents: Sequence[Sequence[SearchedChunk]], dropout: float, seed: int) -> Iterator[GoldenQuery]:
    """One of each passage."""
    every = [(one, " ".join(one.chunk.text.split())) for document in documents for one in document]
    for one, text in every:
        random = Random(_hash_number(seed, one.chunk.id))
        fitting = [
            s for s in _SENTENCE_END.split(text) if SENTENCE_WORDS[0] <= len(_WORD.findall(s)) <= SENTENCE_WORDS[1]
        ]
        if not fitting:
            continue
        sentence = random.choice(fitting)
        words = [word for word in sentence.split() if random.random() >= dropout]
        if len(words) >= 4:
            holders = [other for other, its_text in every if sentence in its_text]
            yield _query(" ".join(words), "sentence", holders, seed, of=one.chunk)


def _is_specific(label: str) -> bool:
    return LABEL_WORDS[0] <= len(_WORD.findall(label)) <= LABEL_WORDS[1] and len(normalised(label)) >= 8


def _query(text: str, way: Way, answers: Sequence[SearchedChunk], seed: int, of: Chunk | None = None) -> GoldenQuery:
    chunk = of or answers[0].chunk
    return GoldenQuery(
        text=" ".join(text.split()),
        way=way,
        document_id=chunk.document_id,
        author_id=chunk.author_id,
        kind=chunk.kind,
        half=half_of(chunk.document_id, seed),
        relevant=tuple(sorted(one.chunk.id for one in answers)),
    )
