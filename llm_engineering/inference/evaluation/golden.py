"""Questions whose answer is known, made from the corpus itself, without a language model.

The title of a document asks for its passages, a heading for those of its section, and a sentence that lost half of
its words for the passage it stands in. Titles and headings are taken out of what is searched, so that nothing is found
by its own label.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Literal, NamedTuple

from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.noun import Noun

Way = Literal["title", "heading", "sentence", "question"]
Half = Literal["choose", "measure"]

SHORTEST_PASSAGE = 80  # characters that are left of a passage; less answers nothing
LONGEST_SECTION = 6  # passages; a heading above more than these asks for too much
LABEL = (2, 20)  # words of a title or heading that can be asked
SENTENCE = (9, 40)  # words, before some are dropped
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


class Searched(NamedTuple):
    """A chunk as it is searched, without any title or heading."""

    chunk: Chunk
    labels: tuple[str, ...]  # the headings it stands under or holds, as they are compared


def golden_set(chunks: Iterable[Chunk], *, queries: int, dropout: float, seed: int) -> tuple[list[Chunk], GoldenSet]:
    """What is to be searched, and what is to be asked. The same chunks and seed give the same set."""
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    documents = [stripped(sorted(of_one, key=lambda c: c.start)) for of_one in by_document.values()]
    originals = {chunk.id: chunk for of_one in by_document.values() for chunk in of_one}
    each = max(1, queries // 3)
    asked = [
        *_few(_titles(documents, originals, seed), each, seed),
        *_few(_headings(documents, originals, seed), each, seed),
        *_few(_sentences(documents, dropout, seed), each, seed),
    ]
    searched = [one.chunk for document in documents for one in document]
    return searched, with_version(searched, asked)


def with_version(searched: Sequence[Chunk], queries: Sequence[GoldenQuery]) -> GoldenSet:
    parts = sorted(content_hash(chunk.id, chunk.text) for chunk in searched)
    parts += sorted(query.model_dump_json() for query in queries)
    return GoldenSet(version=content_hash(*parts)[:12], queries=tuple(queries))


def half_of(document_id: str, seed: int) -> Half:
    """Settings are chosen on one half of the documents and measured on the other."""
    return "choose" if _draw(seed, document_id) % 2 else "measure"


def _draw(seed: int, *parts: str) -> int:
    return int(content_hash(str(seed), *parts)[:12], 16)


def _few(queries: Iterable[GoldenQuery], count: int, seed: int) -> list[GoldenQuery]:
    return sorted(queries, key=lambda q: (_draw(seed, q.document_id, q.text), q.text))[:count]


# --- taking the labels out ---


def plain(text: str) -> str:
    """As labels are compared: lower case words."""
    return " ".join(_WORD.findall(text.lower()))


def stripped(document: Sequence[Chunk]) -> list[Searched]:
    """The passages of one document without its title and headings, wherever they stand; emptied ones left out."""
    labels = {plain(label) for chunk in document for label in (chunk.title, *chunk.headings)} - {""}
    labels |= {plain(line) for chunk in document for line in chunk.text.splitlines() if _HEADING.match(line)} - {""}
    inside = _anywhere(labels)
    found = []
    for chunk in document:
        lines = _LINE.findall(chunk.text)
        held = {plain(line) for line in lines if _HEADING.match(line)}
        text = "".join(line for line in lines if not _HEADING.match(line) and plain(line) not in labels)
        text = inside.sub(" ", text) if inside else text
        if len(text.strip()) >= SHORTEST_PASSAGE:
            bare = chunk.model_copy(update={"title": "", "headings": (), "text": text, "window": text})
            found.append(Searched(bare, tuple(held | {plain(heading) for heading in chunk.headings})))
    return found


def _anywhere(labels: set[str]) -> re.Pattern | None:
    """Finds the labels of three words and more in running text; shorter ones are ordinary words there."""
    long = sorted((label.split() for label in labels if label.count(" ") >= 2), key=len, reverse=True)
    if not long:
        return None
    gap = r"\W+"
    return re.compile("|".join(rf"\b{gap.join(words)}\b" for words in long), re.IGNORECASE)


# --- asking ---


def _titles(documents: Sequence[Sequence[Searched]], originals: dict[str, Chunk], seed: int) -> Iterator[GoldenQuery]:
    titles = [originals[document[0].chunk.id].title if document else "" for document in documents]
    asked = [plain(title) for title in titles]
    for document, title in zip(documents, titles, strict=True):
        if _can_be_asked(title) and asked.count(plain(title)) == 1:
            yield _query(title, "title", document, seed)


def _headings(documents: Sequence[Sequence[Searched]], originals: dict[str, Chunk], seed: int) -> Iterator[GoldenQuery]:
    """Only those that no other document has, and that are no title."""
    owners: dict[str, set[int]] = defaultdict(set)
    written: dict[str, str] = {}
    for i, document in enumerate(documents):
        for one in document:
            original = originals[one.chunk.id]
            owners[plain(original.title)] |= {-1, i}
            for heading in original.headings:
                owners[plain(heading)].add(i)
                written[plain(heading)] = heading
    for label, owned_by in owners.items():
        if len(owned_by) == 1 and label in written and _can_be_asked(written[label]):
            section = [one for one in documents[next(iter(owned_by))] if label in one.labels]
            if 0 < len(section) <= LONGEST_SECTION:
                yield _query(written[label], "heading", section, seed)


def _sentences(documents: Sequence[Sequence[Searched]], dropout: float, seed: int) -> Iterator[GoldenQuery]:
    """One of each passage."""
    every = [(one, " ".join(one.chunk.text.split())) for document in documents for one in document]
    for one, text in every:
        draw = Random(_draw(seed, one.chunk.id))
        fitting = [s for s in _SENTENCE_END.split(text) if SENTENCE[0] <= len(_WORD.findall(s)) <= SENTENCE[1]]
        if not fitting:
            continue
        sentence = draw.choice(fitting)
        words = [word for word in sentence.split() if draw.random() >= dropout]
        if len(words) >= 4:
            holders = [other for other, its_text in every if sentence in its_text]
            yield _query(" ".join(words), "sentence", holders, seed, of=one.chunk)


def _can_be_asked(label: str) -> bool:
    return LABEL[0] <= len(_WORD.findall(label)) <= LABEL[1] and len(plain(label)) >= 8


def _query(text: str, way: Way, answers: Sequence[Searched], seed: int, of: Chunk | None = None) -> GoldenQuery:
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
