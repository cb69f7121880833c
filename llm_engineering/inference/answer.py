"""A question becomes an answer whose every citation was checked before anybody reads it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime

from llm_engineering.domain.answers import (
    Answer,
    AnswerEvent,
    Delta,
    Message,
    ParsedQuestion,
    Passage,
    Question,
    Role,
    Usage,
)
from llm_engineering.domain.errors import LLMTwinError, ModelUnavailable
from llm_engineering.domain.ports import Embedder, LanguageModel, Reranker, Trace, VectorReader
from llm_engineering.domain.prompts import ANSWER_TEMPLATE, NO_ANSWER, Prompt, answer_prompt, answer_template_hash
from llm_engineering.inference.citations import CitationChecker
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.prompt_injection import clean_user_text, neutralise, strip_active_content
from llm_engineering.inference.retrieval.relevance import relevance
from llm_engineering.inference.retrieval.retrieve import FoundPassages, find_passages
from llm_engineering.inference.understanding.understand import checked_question, understand


@dataclass(frozen=True, kw_only=True)
class AnswerContext:
    """What one answer is made with. `today` None: by the clock, in UTC. The answer ends early when `stop` says so."""

    embedder: Embedder
    reader: VectorReader
    model: LanguageModel
    reranker: Reranker | None = None
    config: AskConfig
    trace: Trace
    today: date | None = None
    stop: Callable[[], bool] = lambda: False


def answer(question: Question, context: AnswerContext) -> Answer:
    """As `answer_stream`, when only the end matters. Raises RuntimeError when it was stopped before."""
    *_, last = answer_stream(question, context)
    if not isinstance(last, Answer):
        raise RuntimeError("the answer was stopped before its end")
    return last


def answer_stream(question: Question, context: AnswerContext) -> Generator[AnswerEvent]:
    """What was understood, the passages, the answer in pieces, and last the Answer, whose text is the joined pieces.

    Nothing is searched for a bad question (BadQuestion), and the model is not asked when the relevance is below
    `config.retrieval.min_relevance`. ModelUnavailable, also half-way, with `said` holding what was yielded before.
    Ends early, without an Answer, when `stop` says so; closing the iterator stops the model. The trace is finished
    in every case.
    """
    question = with_recent_turns(question, context.config.answer.history_characters)
    max_question = context.config.understand.max_question
    facts: dict[str, object] = {"question": question.text[:max_question], "outcome": "abandoned"}
    try:
        for event in _events(question, context):
            if isinstance(event, Answer):
                facts |= _summary(event)
            yield event
    except LLMTwinError as error:
        facts |= {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        context.trace.finish(**facts)


def _events(question: Question, context: AnswerContext) -> Iterator[AnswerEvent]:
    parsed = _understand(question, context)
    yield parsed
    found = _retrieve(question, parsed, context)
    relevant = relevance(parsed.queries[0], found.passages, found.best_relevance)
    if not found.passages or relevant < context.config.retrieval.min_relevance:
        yield ()
        yield Delta(text=NO_ANSWER)
        name, trace_id = context.model.name, context.trace.id
        yield Answer(text=NO_ANSWER, answered=False, understood=parsed, model=name, trace_id=trace_id)
        return
    passages, injections = _neutralised(found.passages)
    yield passages
    yield from _generate(question, parsed, passages, injections, context)


def _understand(question: Question, context: AnswerContext) -> ParsedQuestion:
    with context.trace.stage("understand") as facts:
        parsed = understand(
            question,
            facets=context.reader.facets(),
            model=context.model,
            config=context.config.understand,
            today=context.today or datetime.now(UTC).date(),
            count=context.reader.count,
            stop=context.stop,
        )
        facts |= parsed.model_dump(mode="json")
    return parsed


def _retrieve(question: Question, parsed: ParsedQuestion, context: AnswerContext) -> FoundPassages:
    with context.trace.stage("retrieve") as facts:
        found = find_passages(
            parsed,
            embedder=context.embedder,
            reader=context.reader,
            reranker=context.reranker,
            config=context.config.retrieval,
            limit=question.limit,
        )
        facts |= found.facts | {
            "best_relevance": found.best_relevance,
            "passages": [one.chunk.id for one in found.passages],
            "authors": sorted({one.chunk.author_id for one in found.passages}),  # by which `poe forget` finds the trace
        }
    return found


def _generate(
    question: Question,
    parsed: ParsedQuestion,
    passages: tuple[Passage, ...],
    injections: dict[int, tuple[str, ...]],
    context: AnswerContext,
) -> Iterator[Delta | Answer]:
    model, template = context.model, {"template": ANSWER_TEMPLATE, "template_hash": answer_template_hash()}
    with context.trace.stage("answer", model=model.name, suspicious=injections, **template) as facts:
        text = checked_question(question.text, context.config.understand)
        history = recent_history(question.history, context.embedder, context.config.answer.history_tokens)
        prompt = answer_prompt(text, passages, history, query=parsed.queries[0])
        facts["prompt"] = [message.model_dump(mode="json") for message in prompt.messages]
        draft = _CheckedDraft(passages)
        try:
            yield from draft.write(_stream(prompt, context))
            if context.stop():
                return
            yield from draft.end()
        except ModelUnavailable as error:
            error.said = draft.text
            raise
        facts |= {"usage": draft.usage.model_dump(), "removed_citations": draft.checker.removed}
        if not draft.text.strip():
            raise ModelUnavailable(f"{model.name} answered nothing: ask again, or choose another model")
    yield Answer(
        text=draft.text,
        answered=not draft.text.strip().startswith(NO_ANSWER),
        passages=passages,
        citations=tuple(draft.checker.citations),
        removed_citations=draft.checker.removed,
        suspicious_passages=tuple(injections),
        model=model.name,
        usage=draft.usage,
        understood=parsed,
        trace_id=context.trace.id,
    )


def _stream(prompt: Prompt, context: AnswerContext) -> Generator[str | Usage]:
    config = context.config.answer
    return context.model.stream(prompt, max_tokens=config.max_tokens, temperature=config.temperature, stop=context.stop)


class _CheckedDraft:
    """What the model has written so far, as far as its citations were checked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.checker = CitationChecker(passages)
        self.usage = Usage()
        self.text = ""

    def write(self, pieces: Generator[str | Usage]) -> Iterator[Delta]:
        """Closes `pieces` in every case."""
        with closing(pieces):
            for piece in pieces:
                if isinstance(piece, Usage):
                    self.usage = piece
                else:
                    yield from self._append(self.checker.feed(piece))

    def end(self) -> Iterator[Delta]:
        """What the checker held back."""
        yield from self._append(self.checker.finish())

    def _append(self, sentences: Iterator[str]) -> Iterator[Delta]:
        for sentence in sentences:
            checked = strip_active_content(sentence)
            if not self.text:
                checked = checked.lstrip()
            if checked:
                self.text += checked
                yield Delta(text=checked)


def with_recent_turns(question: Question, characters: int) -> Question:
    """Without the turns before the latest ones that fit whole. Nothing was read of them: what a request makes us
    compute grows with its text, and the oldest would be left out later in any case."""
    kept = len(question.history)
    while kept and (characters := characters - len(question.history[kept - 1].content)) >= 0:
        kept -= 1
    return question.model_copy(update={"history": question.history[kept:]}) if kept else question


def recent_history(history: Sequence[Message], embedder: Embedder, budget: int) -> tuple[Message, ...]:
    """The latest turns that fit `budget` tokens whole, beginning with the reader's; no one else's system messages."""
    turns = [
        Message(role=one.role, content=content)
        for one in history
        if one.role is not Role.SYSTEM and (content := clean_user_text(one.content))
    ]
    kept: list[Message] = []
    for turn in reversed(turns):
        [tokens] = embedder.count_tokens([turn.content])
        budget -= tokens
        if budget < 0:
            break
        kept.insert(0, turn)
    while kept and kept[0].role is not Role.USER:
        kept.pop(0)
    return tuple(kept)


def _neutralised(passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], dict[int, tuple[str, ...]]]:
    """The passages as a model may read them, and the injections that were found in which of them."""
    safe = {one.number: neutralise(one.text) for one in passages}
    texts = tuple(one.model_copy(update={"text": safe[one.number].text}) for one in passages)
    return texts, {number: one.found for number, one in safe.items() if one.found}


def _summary(given: Answer) -> dict[str, object]:
    """What a trace is found by."""
    return {
        "outcome": "answered" if given.answered else "nothing found",
        "answer": given.text,
        "citations": len(given.citations),
        "removed_citations": given.removed_citations,
        "prompt_tokens": given.usage.prompt_tokens,
        "completion_tokens": given.usage.completion_tokens,
    }
