"""From what a person typed to what will be searched: a question that stands alone, and the filters it asks for."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any

from llm_engineering.domain.answers import ParsedQuestion, Question, Usage
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import BadQuestion, ModelUnavailable
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.domain.prompts import understand_prompt
from llm_engineering.inference.config import UnderstandConfig
from llm_engineering.inference.prompt_injection import clean_user_text
from llm_engineering.inference.understanding.follow_up import earlier_questions, needs_context, standalone_question
from llm_engineering.inference.understanding.query_filters import FoundFilters, Span, closest_author, find_filters
from llm_engineering.inference.understanding.topic import topic

ANSWER_TOKENS = 700  # for the model's JSON, a made-up answer included
LONGEST_QUERY = 1_000  # characters of one query a model wrote
LONGEST_REPLY = 20_000  # characters; whoever writes more writes no JSON of ours
_FIELDS = {
    "author": ("author_id",),
    "kind": ("kind",),
    "source": ("source",),
    "date": ("published_from", "published_to"),
}


def understand(
    question: Question,
    *,
    facets: Facets,
    model: LanguageModel | None,
    config: UnderstandConfig,
    today: date,
    count: Callable[[Where], int] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ParsedQuestion:
    """`queries` begins with what the question is about, standing alone: without what became a filter, and without
    the words around it.

    The person's own `where` always holds; what is recognised in the words only adds fields it leaves open, and is
    dropped, with a note, where `count` says that nothing would be left. A language model is asked only for what the
    rules cannot do; when it fails, or writes something else than JSON, the rules decide and a note says so.
    Raises BadQuestion for an empty question and for one longer than `config.max_question` characters.
    """
    text = checked_question(question.text, config)
    notes: list[str] = []
    history = tuple(one.model_copy(update={"content": clean_user_text(one.content)}) for one in question.history)
    earlier = earlier_questions(history) if history and needs_context(text) else []
    read, by = None, "rules"
    if _needs_model(config, bool(history)):
        read = _ask(text, history, facets, model, config, notes, stop)
        by = model.name if model and read is not None else "rules"
    where = question.where
    if config.filters:
        pieces = _pieces(text, earlier, facets, read or {}, today, notes)
        where = _narrowed(where, pieces, count, notes)

    def about(words: str) -> str:
        return topic(words, _held(find_filters(words, facets, today), where) if config.filters else ())

    queries = _queries(text, read or {}, config)
    first = about(queries[0]) or queries[0]
    if read is None or not config.rewrite:
        first = standalone_question(text, history, about=about)
        if earlier and first != (about(text) or text):
            notes.append(f"understood as a follow-up: searching {first!r}")
    return ParsedQuestion(queries=(first, *queries[1:]), where=where, by=by, notes=tuple(notes))


def checked_question(text: str, config: UnderstandConfig) -> str:
    """The question without control characters. Raises BadQuestion."""
    if len(text) > config.max_question:
        raise BadQuestion(f"the question has {len(text):,} characters; ask with at most {config.max_question:,}")
    cleaned = clean_user_text(text)
    if not cleaned:
        raise BadQuestion("there is no question: write what you want to know, in any language")
    return cleaned


# --- filters ------------------------------------------------------------------------------------------------


def _pieces(
    text: str, earlier: list[str], facets: Facets, read: dict[str, Any], today: date, notes: list[str]
) -> list[FoundFilters]:
    """One per field: the question's own words first, then the words it leans on, then what the model read."""
    found = {one.field: one for one in find_filters(text, facets, today)}
    for words in earlier:
        for one in find_filters(words, facets, today):
            if one.field not in found:
                found[one.field] = one
                notes.append(f"{one.words}: as before")
    for one in _read_filters(read, facets):
        found.setdefault(one.field, one)
    return [found[field] for field in _FIELDS if field in found]


def _held(pieces: Iterable[FoundFilters], where: Where | None) -> Iterator[Span]:
    """Where the words stand that are a filter now; what was left out, or overruled, is still searched for."""
    for piece in pieces:
        if where and all(getattr(where, field) == value for field, value in piece.values.items() if value is not None):
            yield from piece.spans


def _narrowed(
    where: Where | None, pieces: list[FoundFilters], count: Callable[[Where], int] | None, notes: list[str]
) -> Where | None:
    chosen = where.model_dump(exclude_none=True) if where else {}
    fields = dict(chosen)
    for piece in pieces:
        if any(field in chosen for field in _FIELDS[piece.field]):
            continue
        wider = fields | {field: value for field, value in piece.values.items() if value is not None}
        if count is not None and count(Where(**wider)) == 0:
            notes.append(f"{piece.words}: nothing indexed matches, so it was left out")
            continue
        fields = wider
        notes.append(f"only {piece.words}")
    return Where(**fields) if fields else where


def _read_filters(read: dict[str, Any], facets: Facets) -> list[FoundFilters]:
    """Of the model's reply only what the index holds; everything else it may have made up."""
    found = []
    if (name := _line(read.get("author"))) and (author_id := closest_author(name, facets.authors)):
        found.append(FoundFilters("author", {"author_id": author_id}, f"author {facets.authors[author_id]}"))
    if (kind := _line(read.get("kind")).lower()) in set(Kind) and Kind(kind) in facets.kinds:
        found.append(FoundFilters("kind", {"kind": Kind(kind)}, f"kind {kind}"))
    if (source := _line(read.get("source")).lower()) in facets.sources:
        found.append(FoundFilters("source", {"source": source}, f"source {source}"))
    from_, to = _day(read.get("published_from")), _day(read.get("published_to"))
    if (from_ or to) and not (from_ and to and from_ > to):
        values = {"published_from": from_, "published_to": to + timedelta(days=1) if to else None}
        spoken_of = f"date {from_.date() if from_ else '…'} to {to.date() if to else '…'}"
        found.append(FoundFilters("date", values, spoken_of))
    return found


# --- the language model -------------------------------------------------------------------------------------


def _needs_model(config: UnderstandConfig, has_history: bool) -> bool:
    return bool((config.rewrite and has_history) or config.expansions or config.subquestions or config.hyde)


def _ask(text, history, facets, model, config, notes, stop) -> dict[str, Any] | None:
    """What the model read in the question; None, and a note why, when the rules must do."""
    if model is None or not model.generative:
        notes.append("no language model that writes is configured: understood by rules")
        return None
    prompt = understand_prompt(
        text,
        history=history,
        authors=sorted(facets.authors.values()) if config.filters else (),
        kinds=sorted(facets.kinds) if config.filters else (),
        sources=sorted(facets.sources) if config.filters else (),
        expansions=config.expansions,
        subquestions=config.subquestions,
        hyde=config.hyde,
    )
    until = monotonic() + config.seconds
    reply = ""
    try:
        pieces = model.stream(prompt, max_tokens=ANSWER_TOKENS, stop=lambda: stop() or monotonic() > until)
        for piece in pieces:
            if not isinstance(piece, Usage):
                reply += piece
            if len(reply) > LONGEST_REPLY:
                pieces.close()
                break
    except ModelUnavailable as error:
        notes.append(f"{model.name} could not be asked, so the question was understood by rules: {error}")
        return None
    if (read := _json_object(reply)) is not None:
        return read
    late = "took too long" if monotonic() > until else "did not answer with the JSON it was asked for"
    notes.append(f"{model.name} {late}, so the question was understood by rules")
    return None


def _json_object(reply: str) -> dict[str, Any] | None:
    """The first JSON object in the reply: models like to put a fence or a sentence around it."""
    start = reply.find("{")
    if start < 0:
        return None
    try:
        read, _ = json.JSONDecoder().raw_decode(reply[start:])
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _queries(text: str, read: dict[str, Any], config: UnderstandConfig) -> tuple[str, ...]:
    """The standalone question, then what was asked for beside it; never more, and each once."""
    first = (_line(read.get("question")) or text) if config.rewrite else text
    found = [first]
    for name, most in (("expansions", config.expansions), ("subquestions", config.subquestions)):
        listed = read.get(name)
        if isinstance(listed, list):
            found += [line for one in listed if (line := _line(one))][:most]
    if config.hyde and (passage := _line(read.get("passage"))):
        found.append(passage)
    return tuple(dict.fromkeys(found))


def _line(value: object) -> str:
    return " ".join(clean_user_text(value).split())[:LONGEST_QUERY] if isinstance(value, str) else ""


def _day(value: object) -> datetime | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip()):
        return None
    try:
        return datetime.strptime(value.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
