"""One question through the service, told as HTML while the answer is being written."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from loguru import logger

from llm_engineering.domain.answers import Answer, Delta, Message, Question, Role, Understood
from llm_engineering.domain.chunks import Where
from llm_engineering.domain.errors import BadQuestion, LLMTwinError
from llm_engineering.infrastructure.api.errors import Trouble, trouble_of
from llm_engineering.infrastructure.api.service import Service
from llm_engineering.infrastructure.chat.shown import answer_html, error_html, question_html, waiting_html

LONGEST = 20_000  # characters of a question
TURNS = 12  # messages of the conversation that go along
EVERY = 0.06  # seconds between two looks at an answer on its way


class Told(NamedTuple):
    """`answer` is None until it is complete, and stays so when it failed."""

    html: str
    answer: Answer | None = None


def talk(
    text: str,
    *,
    history: tuple[Message, ...],
    where: Callable[[], Where | None],
    service: Service,
    turn: str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Told]:
    """The turn as it should be shown, again and again. Trouble is shown in it; closing this stops the model."""
    asked, written = question_html(text[:LONGEST]), ""
    yield Told(asked + waiting_html(None, None))
    try:
        question = _question(text, history, where())
        events, shown_at = service.answer(question), 0.0
        understood, passages = None, None
        with closing(events):
            for event in events:
                match event:
                    case Understood():
                        understood = event
                    case tuple():
                        passages = event
                    case Delta():
                        written += event.text
                    case Answer():
                        yield Told(asked + answer_html(turn, event.text, event.passages, event), event)
                        return
                if not isinstance(event, Delta):
                    yield Told(asked + waiting_html(understood, passages))
                elif clock() - shown_at >= EVERY:
                    shown_at = clock()
                    yield Told(asked + answer_html(turn, written, passages or ()))
        raise RuntimeError("the service ended without an answer")
    except LLMTwinError as error:
        logger.warning("the chat page could not answer: {}", error)
        message = trouble_of(error).message
    except Trouble as trouble:
        message = trouble.message
    except Exception:  # the page lives on; the log has the whole of it
        logger.exception("the chat page met a bug")
        message = "something went wrong in the server; its log says what"
    yield Told(asked + (answer_html(turn, written, ()) if written else "") + error_html(message))


def _question(text: str, history: tuple[Message, ...], where: Where | None) -> Question:
    if not text.strip():
        raise BadQuestion("there is no question: write one first")
    if len(text) > LONGEST:
        raise BadQuestion(f"the question has {len(text)} characters, more than {LONGEST}: shorten it")
    return Question(text=text, history=history[-TURNS:], where=where)


def remembered(history: tuple[Message, ...], question: str, answer: Answer) -> tuple[Message, ...]:
    """The conversation with one more turn, as far back as it is sent along."""
    turn = (Message(role=Role.USER, content=question), Message(role=Role.ASSISTANT, content=answer.text))
    return (*history, *turn)[-TURNS:]


def whole(text: str) -> str:
    """Half a character (a lone surrogate), which a browser may send and no text may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
