"""One question, answered through the API's calls, as HTML while the answer is being written."""

import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from functools import partial
from typing import NamedTuple

from loguru import logger

from llm_engineering.domain.answers import Answer, AnswerEvent, Delta, Message, ParsedQuestion, Question, Role
from llm_engineering.domain.chunks import Where
from llm_engineering.domain.errors import BadQuestion, LLMTwinError
from llm_engineering.serving.api.calls import AnswerOptions, Calls
from llm_engineering.serving.api.errors import ApiError, api_error_of
from llm_engineering.serving.api.worker_pool import Stop
from llm_engineering.serving.chat.render import (
    answer_html,
    error_html,
    question_html,
    sources_html,
    waiting_html,
)

MAX_QUESTION = 20_000  # characters of a question
MAX_HISTORY = 12  # messages of the conversation that go along
UPDATE_EVERY = 0.1  # seconds between two updates of an answer on its way


class TurnUpdate(NamedTuple):
    """`answer` is None until it is complete, and stays so when it failed. `written`: there is text of one already."""

    html: str
    answer: Answer | None = None
    written: bool = False


async def answer_turn(
    text: str,
    *,
    history: tuple[Message, ...],
    where: Callable[[], Where | None],
    calls: Calls,
    owner: str | None,
    turn: str,
) -> AsyncGenerator[TurnUpdate, None]:
    """The turn as the page shows it, again and again. What goes wrong is shown in it; closing this stops the model."""
    head = question_html(text[:MAX_QUESTION])
    yield TurnUpdate(head + waiting_html(None, None))
    last = TurnUpdate("")
    try:
        question = _question(text, history, where())
        updates = calls.transformed(owner, question, partial(turn_updates, turn=turn), AnswerOptions())
        async with aclosing(updates):
            async for last in updates:
                yield last._replace(html=head + last.html)
        return
    except LLMTwinError as error:
        logger.warning("the chat page could not answer: {}", error)
        message = api_error_of(error).message
    except ApiError as error:
        message = error.message
    except Exception:  # the page lives on; the log has the whole of it
        logger.exception("the chat page met a bug")
        message = "something went wrong in the server; its log says what"
    yield TurnUpdate(head + (last.html if last.written else "") + error_html(message))


def turn_updates(
    events: Generator[AnswerEvent], stop: Stop, *, turn: str, clock: Callable[[], float] = time.monotonic
) -> Generator[TurnUpdate]:
    """Events as the answer's part of the turn. Made in a worker's thread, so that the event loop has none of it."""
    understood, passages, sources, written, due = None, (), "", "", clock()
    with closing(events):
        try:
            for event in events:
                if stop():
                    return
                match event:
                    case Answer():
                        yield TurnUpdate(answer_html(turn, event.text, event.passages, event), event, written=True)
                    case Delta():
                        written += event.text
                        if clock() >= due:
                            yield TurnUpdate(answer_html(turn, written, passages, sources=sources), written=True)
                            due = clock() + UPDATE_EVERY
                    case ParsedQuestion():
                        understood = event
                        yield TurnUpdate(waiting_html(understood, None))
                    case passages:
                        sources = sources_html(turn, passages)
                        yield TurnUpdate(waiting_html(understood, passages))
        except LLMTwinError:
            if written:
                yield TurnUpdate(answer_html(turn, written, passages, sources=sources), written=True)
            raise


def _question(text: str, history: tuple[Message, ...], where: Where | None) -> Question:
    if not text.strip():
        raise BadQuestion("there is no question: write one first")
    if len(text) > MAX_QUESTION:
        raise BadQuestion(f"the question has {len(text)} characters, more than {MAX_QUESTION}: shorten it")
    return Question(text=text, history=history[-MAX_HISTORY:], where=where)


def extended_history(history: tuple[Message, ...], question: str, answer: Answer) -> tuple[Message, ...]:
    """The conversation with one more turn, as far back as it is sent along."""
    turn = (Message(role=Role.USER, content=question), Message(role=Role.ASSISTANT, content=answer.text))
    return (*history, *turn)[-MAX_HISTORY:]
