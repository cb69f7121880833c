"""The routes. Each takes what was asked apart, has the work done off the event loop, and shows what came of it."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.answers import Answer, Delta, Feedback, ParsedQuestion
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.serving.api import openai_schema as openai
from llm_engineering.serving.api import schemas, sse
from llm_engineering.serving.api.calls import Calls, owner_of
from llm_engineering.serving.api.errors import INVALID, SERVER, ApiError, api_error_of, validation_error
from llm_engineering.serving.api.metrics import MEDIA_TYPE
from llm_engineering.serving.api.openapi import PROBE, answers
from llm_engineering.serving.api.service import Event

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


def register(app: "FastAPI", calls: Calls) -> None:
    _own_routes(app, calls)
    _openai_routes(app, calls)
    _probes(app, calls)
    _errors(app)


def _own_routes(app: "FastAPI", calls: Calls) -> None:
    from fastapi import Request

    @app.post(
        "/search", tags=["ask"], summary="The passages that answer a question", responses=answers(schemas.SearchAnswer)
    )
    async def search(asked: schemas.SearchRequest, request: Request) -> Any:
        question = asked.as_question()
        schemas.check_context(question, characters=calls.limits.context_characters)
        found = await calls.blocking(request, lambda: calls.service.search(question))
        sources = [schemas.source(one) for one in found.passages]
        return _json({"understood": schemas.understood(found.understood), "sources": sources})

    @app.post(
        "/rag", tags=["ask"], summary="An answer with its sources", responses=answers(schemas.RagAnswer, stream=True)
    )
    async def rag(asked: schemas.RagRequest, request: Request) -> Any:
        options = {"max_tokens": asked.max_tokens, "temperature": asked.temperature}
        if not asked.stream:
            return _json(schemas.rag_answer(await calls.ask(request, asked.as_question(), **options)))
        return await _streamed(request, _rag_events(calls.events(owner_of(request), asked.as_question(), **options)))

    @app.post(
        "/feedback", tags=["ask"], summary="Say what you think of an answer", status_code=201,
        responses=answers(schemas.Stored, status=201),
    )  # fmt: skip
    async def feedback(given: schemas.FeedbackRequest, request: Request) -> Any:
        thought = Feedback(**given.model_dump())
        await calls.blocking(request, lambda: calls.service.feedback(thought))
        return _json({"stored": True}, status=201)


def _openai_routes(app: "FastAPI", calls: Calls) -> None:
    from fastapi import Request

    @app.post(
        "/v1/chat/completions", tags=["openai"], summary="OpenAI's chat completions",
        responses=answers(openai.Completion, stream=True, not_found=True),
    )  # fmt: skip
    async def chat(asked: openai.ChatRequest, request: Request) -> Any:
        known = calls.service.models()
        if asked.model not in known:
            raise openai.unknown_model(asked.model, known)
        question, chat_id = asked.as_question(), f"chatcmpl-{secrets.token_hex(12)}"
        options = {"max_tokens": asked.tokens, "temperature": asked.temperature}
        if not asked.stream:
            answer = await calls.ask(request, question, **options)
            return _json(openai.completion(answer, asked, chat_id=chat_id))
        events = calls.events(owner_of(request), question, **options)
        return await _streamed(request, _chat_chunks(events, asked, openai.Chunks(asked, chat_id=chat_id)))

    @app.get(
        "/v1/models", tags=["openai"], summary="What may be asked", responses=answers(openai.ModelList, body=False)
    )
    async def models() -> Any:
        data = [openai.model_out(name, created=calls.started) for name in calls.service.models()]
        return _json({"object": "list", "data": data})

    @app.get(
        "/v1/models/{model:path}", tags=["openai"], summary="One of them",
        responses=answers(openai.ModelOut, body=False, not_found=True),
    )  # fmt: skip
    async def model(model: str) -> Any:
        known = calls.service.models()
        if model not in known:
            raise openai.unknown_model(model, known)
        return _json(openai.model_out(model, created=calls.started))


def _probes(app: "FastAPI", calls: Calls) -> None:
    from fastapi import Response

    @app.get(
        "/health",
        tags=["operate"],
        summary="Whether the process is alive",
        responses={200: {"model": schemas.HealthOut}},
    )
    async def health() -> Any:
        return _json({"status": "alive"})

    @app.get("/ready", tags=["operate"], summary="Whether questions can be answered", responses=PROBE)
    async def ready() -> Any:
        found = await calls.readiness()
        body = {
            "ready": found.ready,
            "pieces": [piece.model_dump() for piece in found.pieces],
            "index": found.index.model_dump() if found.index else None,
        }
        return _json(body, status=200 if found.ready else 503, headers={} if found.ready else {"Retry-After": "2"})

    @app.get(
        "/metrics", tags=["operate"], summary="For Prometheus",
        responses={**answers(None, body=False), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    async def metrics() -> Any:
        return Response(calls.metrics.text(await calls.readiness()), headers={"Content-Type": MEDIA_TYPE})


def _errors(app: "FastAPI") -> None:
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @app.exception_handler(RequestValidationError)
    async def wrong_fields(_: Request, error: RequestValidationError) -> Any:
        raise validation_error(error.errors())

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Any:
        messages = {404: f"there is nothing at this address; see {request.scope.get('root_path', '')}/docs"}
        message = messages.get(error.status_code, str(error.detail))
        kind = INVALID if error.status_code < 500 else SERVER
        raise ApiError(error.status_code, message, type=kind, headers=error.headers)


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    return Response(sse.as_json(value), status, headers, "application/json")


# --- streams ---------------------------------------------------------------------------------------------------


async def _streamed(request: "Request", pieces: AsyncGenerator[bytes, None]) -> "Response":
    from llm_engineering.serving.api.event_stream import EventStream, begun

    return EventStream(await begun(pieces, request.receive))


def _error_body(error: LLMTwinError | ApiError) -> dict[str, Any]:
    return (error if isinstance(error, ApiError) else api_error_of(error)).body()


async def _rag_events(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    begun = False
    async with aclosing(events):
        try:
            async for event in events:
                match event:
                    case ParsedQuestion():
                        piece = sse.event(schemas.understood(event), "understood")
                    case Delta():
                        piece = sse.event({"text": event.text}, "delta")
                    case Answer():
                        piece = sse.event(schemas.rag_answer(event), "answer")
                    case passages:
                        piece = sse.event({"sources": [schemas.source(one) for one in passages]}, "sources")
                yield piece
                begun = True
        except (LLMTwinError, ApiError) as error:
            if not begun:
                raise
            yield sse.event(_error_body(error), "error")


async def _chat_chunks(
    events: AsyncGenerator[Event, None], asked: openai.ChatRequest, chunks: openai.Chunks
) -> AsyncGenerator[bytes, None]:
    """Begins with the first piece of text, as until then a status can still tell what went wrong."""
    begun, cut = False, openai.StopCut(asked.stops)
    async with aclosing(events):
        try:
            async for event in events:
                if not isinstance(event, Delta | Answer):
                    continue
                if not begun:
                    yield sse.event(chunks.first())
                    begun = True
                text = cut.take(event.text) if isinstance(event, Delta) else cut.rest()
                if text:
                    yield sse.event(chunks.text(text))
                if isinstance(event, Answer):
                    yield sse.event(chunks.last(event, stopped=cut.stopped))
                    if asked.wants_usage:
                        yield sse.event(chunks.usage(event))
            yield b"data: [DONE]\n\n"
        except (LLMTwinError, ApiError) as error:
            if not begun:
                raise
            yield sse.event(_error_body(error))
