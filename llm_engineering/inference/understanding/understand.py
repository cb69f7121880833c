"""From what a person typed to what will be searched: a question that stands alone, and the filters it asks for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date

from llm_engineering.domain.answers import ParsedQuestion, Question
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.errors import BadQuestion
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.inference.config import UnderstandConfig
from llm_engineering.inference.prompt_injection import clean_user_text
from llm_engineering.inference.understanding.follow_up import earlier_questions, needs_context, standalone_question
from llm_engineering.inference.understanding.model_reading import ModelReading, read_with_model
from llm_engineering.inference.understanding.query_filters import FILTERS, FoundFilter, Span, find_filters, set_fields
from llm_engineering.inference.understanding.topic import topic


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
    history = tuple(one.model_copy(update={"content": clean_user_text(one.content)}) for one in question.history)
    context = earlier_questions(history) if history and needs_context(text) else []
    notes: list[str] = []
    reading: ModelReading | None = None
    if _needs_model(config, bool(history)):
        reading = read_with_model(text, history, model=model, facets=facets, config=config, stop=stop)
        if reading.note:
            notes.append(reading.note)
            reading = None
    where = question.where
    if config.filters:
        filters = _find_filters(text, context, reading.filters if reading else (), facets, today, notes)
        where = _add_filters(where, filters, count, notes)

    def topic_of(words: str) -> str:
        return topic(words, _filter_spans(find_filters(words, facets, today), where) if config.filters else ())

    queries = _queries(text, reading or ModelReading(), config)
    first = topic_of(queries[0]) or queries[0]
    if reading is None or not config.rewrite:
        first = standalone_question(text, history, topic_of=topic_of)
        if context and first != (topic_of(text) or text):
            notes.append(f"understood as a follow-up: searching {first!r}")
    by = model.name if model and reading is not None else "rules"
    return ParsedQuestion(queries=(first, *queries[1:]), where=where, by=by, notes=tuple(notes))


def checked_question(text: str, config: UnderstandConfig) -> str:
    """The question without control characters. Raises BadQuestion."""
    if len(text) > config.max_question:
        raise BadQuestion(f"the question has {len(text):,} characters; ask with at most {config.max_question:,}")
    cleaned = clean_user_text(text)
    if not cleaned:
        raise BadQuestion("there is no question: write what you want to know, in any language")
    return cleaned


def _needs_model(config: UnderstandConfig, has_history: bool) -> bool:
    return bool((config.rewrite and has_history) or config.expansions or config.subquestions or config.hyde)


def _find_filters(
    text: str,
    context: Sequence[str],
    read_by_model: Iterable[FoundFilter],
    facets: Facets,
    today: date,
    notes: list[str],
) -> list[FoundFilter]:
    """One of each name: the question's own words first, then the questions before it, then what the model read."""
    found = {one.name: one for one in find_filters(text, facets, today)}
    for words in context:
        for one in find_filters(words, facets, today):
            if one.name not in found:
                found[one.name] = one
                notes.append(f"{one}: as before")
    for one in read_by_model:
        found.setdefault(one.name, one)
    return [found[name] for name in FILTERS if name in found]


def _filter_spans(filters: Iterable[FoundFilter], where: Where | None) -> Iterator[Span]:
    """Where the words stand that are a filter now; what was left out, or overruled, is still searched for."""
    for one in filters:
        if where and all(getattr(where, field) == value for field, value in set_fields(one.where).items()):
            yield from one.spans


def _add_filters(
    where: Where | None, filters: Sequence[FoundFilter], count: Callable[[Where], int] | None, notes: list[str]
) -> Where | None:
    """Those that set no field of a filter the person chose, and that leave something."""
    chosen = set(set_fields(where)) if where else set()
    for one in filters:
        if not chosen.isdisjoint(FILTERS[one.name]):
            continue
        narrower = (where or Where()).model_copy(update=set_fields(one.where))
        if count is not None and count(narrower) == 0:
            notes.append(f"{one}: nothing indexed matches, so it was left out")
            continue
        where = narrower
        notes.append(f"only {one}")
    return where


def _queries(text: str, reading: ModelReading, config: UnderstandConfig) -> tuple[str, ...]:
    """The standalone question, then what was asked for beside it, each once."""
    first = (reading.question or text) if config.rewrite else text
    found = (first, *reading.expansions, *reading.subquestions, reading.passage)
    return tuple(dict.fromkeys(query for query in found if query))
