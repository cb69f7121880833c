"""What a language model reads in a question: asked for as JSON, and of its reply only what is of use."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple

from llm_engineering.domain.answers import Message, Usage
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import ModelUnavailable
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.domain.prompts import understand_prompt
from llm_engineering.inference.config import UnderstandConfig
from llm_engineering.inference.prompt_injection import clean_user_text
from llm_engineering.inference.understanding.query_filters import FoundFilter, closest_author

MAX_TOKENS = 700  # of the reply, a made-up passage included
MAX_QUERY = 1_000  # characters of one query
MAX_REPLY = 20_000  # characters; whoever writes more writes no JSON of ours


class ModelReading(NamedTuple):
    """A reply, or `note` that says why there is none of use."""

    question: str = ""  # as it stands alone
    expansions: tuple[str, ...] = ()
    subquestions: tuple[str, ...] = ()
    passage: str = ""  # made up, as it could stand in a text that answers
    filters: tuple[FoundFilter, ...] = ()
    note: str = ""


def read_with_model(
    question: str,
    history: Sequence[Message],
    *,
    model: LanguageModel | None,
    facets: Facets,
    config: UnderstandConfig,
    stop: Callable[[], bool],
) -> ModelReading:
    """Raises nothing: a model that is missing, down, late or no help is a note."""
    if model is None or not model.generative:
        return ModelReading(note="no language model that writes is configured: understood by rules")
    prompt = understand_prompt(
        question,
        history=history,
        authors=sorted(facets.authors.values()) if config.filters else (),
        kinds=sorted(facets.kinds) if config.filters else (),
        sources=sorted(facets.sources) if config.filters else (),
        expansions=config.expansions,
        subquestions=config.subquestions,
        hyde=config.hyde,
    )
    deadline = monotonic() + config.seconds
    reply = ""
    try:
        pieces = model.stream(prompt, max_tokens=MAX_TOKENS, stop=lambda: stop() or monotonic() > deadline)
        with closing(pieces):
            for piece in pieces:
                reply += "" if isinstance(piece, Usage) else piece
                if len(reply) > MAX_REPLY:
                    break
    except ModelUnavailable as error:
        return ModelReading(note=f"{model.name} could not be asked, so the question was understood by rules: {error}")
    if (fields := _json_object(reply)) is not None:
        return _parse(fields, facets, config)
    reason = "took too long" if monotonic() > deadline else "did not answer with the JSON it was asked for"
    return ModelReading(note=f"{model.name} {reason}, so the question was understood by rules")


def _json_object(reply: str) -> dict[str, object] | None:
    """The first JSON object in the reply: models like to put a fence or a sentence around it."""
    start = reply.find("{")
    if start < 0:
        return None
    try:
        fields, _ = json.JSONDecoder().raw_decode(reply[start:])
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _parse(fields: Mapping[str, object], facets: Facets, config: UnderstandConfig) -> ModelReading:
    return ModelReading(
        question=_line(fields.get("question")),
        expansions=_lines(fields.get("expansions"))[: config.expansions],
        subquestions=_lines(fields.get("subquestions"))[: config.subquestions],
        passage=_line(fields.get("passage")) if config.hyde else "",
        filters=tuple(_filters(fields, facets)),
    )


def _filters(fields: Mapping[str, object], facets: Facets) -> list[FoundFilter]:
    """Only what the index holds; everything else the model may have made up."""
    found = []
    if (name := _line(fields.get("author"))) and (author_id := closest_author(name, facets.authors)):
        found.append(FoundFilter("author", Where(author_id=author_id), facets.authors[author_id]))
    if (kind := _line(fields.get("kind")).lower()) in set(Kind) and Kind(kind) in facets.kinds:
        found.append(FoundFilter("kind", Where(kind=Kind(kind)), kind))
    if (source := _line(fields.get("source")).lower()) in facets.sources:
        found.append(FoundFilter("source", Where(source=source), source))
    from_, to = _day(fields.get("published_from")), _day(fields.get("published_to"))
    if (from_ or to) and not (from_ and to and from_ > to):
        where = Where(published_from=from_, published_to=to + timedelta(days=1) if to else None)
        found.append(FoundFilter("date", where, f"{from_.date() if from_ else '…'} to {to.date() if to else '…'}"))
    return found


def _line(value: object) -> str:
    return " ".join(clean_user_text(value).split())[:MAX_QUERY] if isinstance(value, str) else ""


def _lines(value: object) -> tuple[str, ...]:
    return tuple(line for one in value if (line := _line(one))) if isinstance(value, list) else ()


def _day(value: object) -> datetime | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip()):
        return None
    try:
        return datetime.strptime(value.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
