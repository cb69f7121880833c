"""OpenAI's chat completions, as far as they make sense here: https://platform.openai.com/docs/api-reference/chat

Fields that are not known are ignored, as OpenAI's clients send many. System messages are ignored too, and the answer
says so: the rules an answer is held to (cite, invent nothing) are the platform's own.
"""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from llm_engineering.domain.answers import Answer, Question, Role
from llm_engineering.domain.answers import Message as DomainMessage
from llm_engineering.serving.api import schemas
from llm_engineering.serving.api.errors import ApiError

EXTENSION = "llm_twin"  # the field of a completion that holds sources and citations


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(max_length=1000)] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    model: str = Field(max_length=300, examples=["llm-twin"])
    messages: list[ChatMessage] = Field(
        min_length=1, max_length=200, examples=[[{"role": "user", "content": schemas.EXAMPLE}]]
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    stop: str | list[str] | None = None
    n: Literal[1] | None = 1
    user: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _at_most_four(cls, value: Any) -> Any:
        """Before each of them is looked at, which for a megabyte of them would take seconds."""
        if isinstance(value, list) and len(value) > 4:
            raise ValueError("at most 4 stop sequences")
        return value

    @property
    def tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(one for one in given if one)

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def as_question(self) -> Question:
        """The last message is the question, and must be the user's. Raises ApiError."""
        last = self.messages[-1]
        if last.role != "user":
            raise ApiError(
                400, "the last message must be the user's question", code="bad_request",
                param=f"messages[{len(self.messages) - 1}].role",
            )  # fmt: skip
        turns = [one for one in self.messages[:-1] if one.role in ("user", "assistant") and one.text]
        return Question(
            text=last.text,
            history=tuple(DomainMessage(role=Role(one.role), content=one.text) for one in turns),
        )

    def notes(self) -> list[str]:
        ignored = sum(one.role not in ("user", "assistant") for one in self.messages)
        return [f"{ignored} messages with instructions or tool results were not used"] if ignored else []


class ExtensionOut(schemas.AnswerDetails):
    notes: list[str]


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: schemas.UsageOut
    llm_twin: ExtensionOut


class ModelOut(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelOut]


def model_out(name: str, *, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "llm-twin"}


def unknown_model(name: str, known: Sequence[str]) -> ApiError:
    return ApiError(
        404,
        f"there is no model {name[:100]!r}; there is: {', '.join(known)}",
        code="model_not_found",
        param="model",
    )


def finish_reason(answer: Answer, request: ChatRequest, *, stopped: bool = False) -> str:
    limit = request.tokens
    reached = limit is not None and answer.usage.completion_tokens >= limit
    return "length" if reached and not stopped else "stop"


def extension(answer: Answer, request: ChatRequest) -> dict[str, Any]:
    return {**schemas.answer_details(answer), "notes": request.notes()}


def completion(answer: Answer, request: ChatRequest, *, chat_id: str) -> dict[str, Any]:
    stops = StopSequences(request.stops)
    text = stops.feed(answer.text) + stops.flush()
    return {
        "id": chat_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": finish_reason(answer, request, stopped=stops.found),
                "logprobs": None,
            }
        ],
        "usage": schemas.usage_out(answer.usage),
        EXTENSION: extension(answer, request),
    }


class CompletionChunks:
    """The pieces of one streamed completion, which share an id."""

    def __init__(self, request: ChatRequest, *, chat_id: str) -> None:
        self._request = request
        self._head = {
            "id": chat_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
        }

    def first(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text})

    def last(self, answer: Answer, *, stopped: bool) -> dict[str, Any]:
        chunk = self._chunk({}, finish_reason(answer, self._request, stopped=stopped))
        return {**chunk, EXTENSION: extension(answer, self._request)}

    def usage(self, answer: Answer) -> dict[str, Any]:
        return {**self._head, "choices": [], "usage": schemas.usage_out(answer.usage)}

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head, "choices": [choice], **({"usage": None} if self._request.wants_usage else {})}


class StopSequences:
    """Ends a text before the first stop sequence, also where it is spread over several pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self.found = stops, "", False
        self._longest = max((len(one) for one in stops), default=1)

    def feed(self, piece: str) -> str:
        """What is certain to come before any stop sequence."""
        if self.found:
            return ""
        self._held += piece
        places = [at for at in (self._held.find(one) for one in self._stops) if at >= 0]
        if places:
            self.found = True
            text, self._held = self._held[: min(places)], ""
            return text
        certain = max(0, len(self._held) - self._longest + 1)
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text
