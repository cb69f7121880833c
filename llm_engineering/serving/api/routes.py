"""The routes. Each takes a request apart, has the work done off the event loop, and sends what came of it."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.answers import Answer, AnswerEvent, Delta, Feedback, ParsedQuestion
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.serving.api import openai_schema as openai
from llm_engineering.serving.api import schemas, sse
from llm_engineering.serving.api.calls import AnswerOptions, Calls, key_id
from llm_engineering.serving.api.errors import INVALID, SERVER, ApiError, api_error_of, validation_error
from llm_engineering.serving.api.metrics import MEDIA_TYPE
from llm_engineering.serving.api.openapi import PROBE, responses
from llm_engineering.serving.api.request_body import bounded_route

if TYPE_CHECKING:
    from fastapi import FastAPI, Response


def register(app: "FastAPI", calls: Calls) -> None:
    app.router.route_class = bounded_route()
    _own_routes(app, calls)
    _openai_routes(app, calls)
    _probes(app, calls)
    _errors(app)


def _own_routes(app: "FastAPI", calls: Calls) -> None:
    from fastapi import Request

    @app.post(
        "/search",
        tags=["ask"],
        summary="The passages that answer a question",
        responses=responses(schemas.SearchAnswer),
    )
    async def search(body: schemas.SearchRequest, request: Request) -> Any:
        question = body.as_question()
        length = schemas.check_context(question, characters=calls.limits.context_characters)
        result = await calls.run_for(request, lambda: calls.service.search(question), length=length)
        sources = [schemas.source_out(one) for one in result.passages]
        return _json({"understood": schemas.parsed_question_out(result.understood), "sources": sources})

    @app.post(
        "/rag", tags=["ask"], summary="An answer with its sources", responses=responses(schemas.RagAnswer, stream=True)
    )
    async def rag(body: schemas.RagRequest, request: Request) -> Any:
        question = body.as_question()
        options = AnswerOptions(max_tokens=body.max_tokens, temperature=body.temperature)
        if not body.stream:
            return _json(schemas.rag_answer_out(await calls.answer(request, question, options)))
        events = calls.events(key_id(request), question, options)
        return await sse.event_stream(_rag_events(events), request.receive)

    @app.post(
        "/feedback", tags=["ask"], summary="Say what you think of an answer", status_code=201,
        responses=responses(schemas.Stored, status=201),
    )  # fmt: skip
    async def feedback(body: schemas.FeedbackRequest, request: Request) -> Any:
        given = Feedback(**body.model_dump())
        await calls.run_for(request, lambda: calls.service.feedback(given))
        return _json({"stored": True}, status=201)


def _openai_routes(app: "FastAPI", calls: Calls) -> None:
    from fastapi import Request

    @app.post(
        "/v1/chat/completions", tags=["openai"], summary="OpenAI's chat completions",
        responses=responses(openai.Completion, stream=True, not_found=True),
    )  # fmt: skip
    async def chat(body: openai.ChatRequest, request: Request) -> Any:
        known = calls.service.models()
        if body.model not in known:
            raise openai.unknown_model(body.model, known)
        question, chat_id = body.as_question(), f"chatcmpl-{secrets.token_hex(12)}"
        options = AnswerOptions(max_tokens=body.tokens, temperature=body.temperature)
        if not body.stream:
            answer = await calls.answer(request, question, options)
            return _json(openai.completion(answer, body, chat_id=chat_id))
        events = calls.events(key_id(request), question, options)
        chunks = _chat_chunks(events, body, openai.CompletionChunks(body, chat_id=chat_id))
        return await sse.event_stream(chunks, request.receive)

    @app.get(
        "/v1/models", tags=["openai"], summary="What may be asked", responses=responses(openai.ModelList, body=False)
    )
    async def models() -> Any:
        data = [openai.model_out(name, created=calls.started) for name in calls.service.models()]
        return _json({"object": "list", "data": data})

    @app.get(
        "/v1/models/{model:path}", tags=["openai"], summary="One of them",
        responses=responses(openai.ModelOut, body=False, not_found=True),
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
        now = await calls.readiness()
        body = {
            "ready": now.ready,
            "pieces": [component.model_dump() for component in now.components],
            "index": now.index.model_dump() if now.index else None,
        }
        return _json(body, status=200 if now.ready else 503, headers={} if now.ready else {"Retry-After": "2"})

    @app.get(
        "/metrics", tags=["operate"], summary="For Prometheus",
        responses={**responses(None, body=False), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
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
        code = "bad_json" if error.status_code == 400 else None  # of a body that could not be read
        raise ApiError(error.status_code, message, type=kind, code=code, headers=error.headers)


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    return Response(sse.json_bytes(value), status, headers, "application/json")


# --- streams ---------------------------------------------------------------------------------------------------


def _error_body(error: LLMTwinError | ApiError) -> dict[str, Any]:
    return (error if isinstance(error, ApiError) else api_error_of(error)).body()


async def _rag_events(events: AsyncGenerator[AnswerEvent]) -> AsyncGenerator[bytes]:
    started = False
    async with aclosing(events):
        try:
            async for event in events:
                match event:
                    case ParsedQuestion():
                        piece = sse.event_bytes(schemas.parsed_question_out(event), "understood")
                    case Delta():
                        piece = sse.event_bytes({"text": event.text}, "delta")
                    case Answer():
                        piece = sse.event_bytes(schemas.rag_answer_out(event), "answer")
                    case passages:
                        piece = sse.event_bytes({"sources": [schemas.source_out(one) for one in passages]}, "sources")
                yield piece
                started = True
        except (LLMTwinError, ApiError) as error:
            if not started:
                raise
            yield sse.event_bytes(_error_body(error), "error")


async def _chat_chunks(
    events: AsyncGenerator[AnswerEvent], request: openai.ChatRequest, chunks: openai.CompletionChunks
) -> AsyncGenerator[bytes]:
    """Begins with the first piece of text, as until then a status can still tell what went wrong."""
    started, stops = False, openai.StopSequences(request.stops)
    async with aclosing(events):
        try:
            async for event in events:
                if not isinstance(event, Delta | Answer):
                    continue
                if not started:
                    yield sse.event_bytes(chunks.first())
                    started = True
                text = stops.feed(event.text) if isinstance(event, Delta) else stops.flush()
                if text:
                    yield sse.event_bytes(chunks.text(text))
                if isinstance(event, Answer):
                    yield sse.event_bytes(chunks.last(event, stopped=stops.found))
                    if request.wants_usage:
                        yield sse.event_bytes(chunks.usage(event))
            yield b"data: [DONE]\n\n"
        except (LLMTwinError, ApiError) as error:
            if not started:
                raise
            yield sse.event_bytes(_error_body(error))
