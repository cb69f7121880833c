"""A question becomes an answer whose every citation was checked before anybody reads it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime

from llm_engineering.domain.answers import Answer, Delta, Message, ParsedQuestion, Passage, Question, Role, Usage
from llm_engineering.domain.errors import LLMTwinError, ModelUnavailable
from llm_engineering.domain.ports import Embedder, LanguageModel, Reranker, Trace, VectorReader
from llm_engineering.domain.prompts import NO_ANSWER, answer_prompt, template_hash
from llm_engineering.inference.citations import CitationChecker
from llm_engineering.inference.config import AskConfig
from llm_engineering.inference.prompt_injection import clean_user_text, neutralise, without_active_content
from llm_engineering.inference.retrieval.relevance import relevance
from llm_engineering.inference.retrieval.retrieve import find_passages
from llm_engineering.inference.understanding.understand import checked_question, understand

Step = ParsedQuestion | tuple[Passage, ...] | Delta | Answer


def answer(question: Question, **collaborators) -> Answer:
    """As `answer_stream`, when only the end matters."""
    *_, last = answer_stream(question, **collaborators)
    return last


def answer_stream(
    question: Question,
    *,
    embedder: Embedder,
    reader: VectorReader,
    model: LanguageModel,
    reranker: Reranker | None,
    config: AskConfig,
    trace: Trace,
    today: date | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """What was understood, the passages, the answer in pieces, and last the Answer, whose text is the joined pieces.

    Nothing is searched for a bad question (BadQuestion), and the model is not asked when the relevance is below
    `config.retrieval.min_relevance`. ModelUnavailable, also half-way, with `said` holding what was yielded before.
    Ends early, without an Answer, when `stop` says so; closing the iterator stops the model. The trace is finished
    in every case.
    """
    facts: dict[str, object] = {"question": question.text[: config.understand.max_question], "outcome": "abandoned"}
    try:
        for step in _steps(question, embedder, reader, model, reranker, config, trace, today, stop):
            if isinstance(step, Answer):
                facts |= _summary(step)
            yield step
    except LLMTwinError as error:
        facts |= {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        trace.finish(**facts)


def _steps(question, embedder, reader, model, reranker, config, trace, today, stop) -> Iterator[Step]:
    with trace.stage("understand") as facts:
        understood = understand(
            question,
            facets=reader.facets(),
            model=model,
            config=config.understand,
            today=today or datetime.now(UTC).date(),
            count=reader.count,
            stop=stop,
        )
        facts |= understood.model_dump(mode="json")
    yield understood
    with trace.stage("retrieve") as facts:
        found = find_passages(
            understood,
            embedder=embedder,
            reader=reader,
            reranker=reranker,
            config=config.retrieval,
            limit=question.limit,
        )
        facts |= found.facts | {
            "best_relevance": found.best_relevance,
            "passages": [p.chunk.id for p in found.passages],
            "authors": sorted({p.chunk.author_id for p in found.passages}),  # by which `poe forget` finds the trace
        }
    relevant = relevance(understood.queries[0], found.passages, found.best_relevance)
    if not found.passages or relevant < config.retrieval.min_relevance:
        yield ()
        yield Delta(text=NO_ANSWER)
        yield Answer(text=NO_ANSWER, answered=False, understood=understood, model=model.name, trace_id=trace.id)
        return
    passages, suspicious = _as_data(found.passages)
    yield passages
    text = checked_question(question.text, config.understand)
    with trace.stage("answer", model=model.name, template=template_hash(), suspicious=suspicious) as facts:
        turns = kept_history(question.history, embedder, config.answer.history_tokens)
        prompt = answer_prompt(text, passages, turns, about=understood.queries[0])
        facts["prompt"] = [message.model_dump(mode="json") for message in prompt.messages]
        written = _Writing(passages)
        try:
            pieces = model.stream(
                prompt, max_tokens=config.answer.max_tokens, temperature=config.answer.temperature, stop=stop
            )
            with closing(pieces):
                for piece in pieces:
                    yield from written.take(piece)
            if stop():
                return
            yield from written.end()
        except ModelUnavailable as error:
            error.said = written.text
            raise
        facts |= {"usage": written.usage.model_dump(), "removed_citations": written.checker.removed}
        if not written.text.strip():
            raise ModelUnavailable(f"{model.name} answered nothing: ask again, or choose another model")
    yield Answer(
        text=written.text,
        answered=not written.text.strip().startswith(NO_ANSWER),
        passages=passages,
        citations=tuple(written.checker.citations),
        removed_citations=written.checker.removed,
        suspicious_passages=tuple(suspicious),
        model=model.name,
        usage=written.usage,
        understood=understood,
        trace_id=trace.id,
    )


class _Writing:
    """What the model has written so far, as far as it was checked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.checker = CitationChecker(passages)
        self.usage = Usage()
        self.text = ""

    def take(self, piece: str | Usage) -> Iterator[Delta]:
        if isinstance(piece, Usage):
            self.usage = piece
            return
        yield from self._release(self.checker.feed(piece))

    def end(self) -> Iterator[Delta]:
        yield from self._release(self.checker.finish())

    def _release(self, sentences: Iterator[str]) -> Iterator[Delta]:
        for sentence in sentences:
            ready = without_active_content(sentence)
            if not self.text:
                ready = ready.lstrip()
            if ready:
                self.text += ready
                yield Delta(text=ready)


def kept_history(history: Sequence[Message], embedder: Embedder, budget: int) -> tuple[Message, ...]:
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


def _as_data(passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], dict[int, tuple[str, ...]]]:
    """The passages as a model may read them, and what was found in which of them."""
    neutral = {one.number: neutralise(one.text) for one in passages}
    texts = tuple(one.model_copy(update={"text": neutral[one.number].text}) for one in passages)
    return texts, {number: one.found for number, one in neutral.items() if one.found}


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
