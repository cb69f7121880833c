"""What the OpenAPI document says about answers, so that a client, or a tester, can hold us to it."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from llm_engineering.serving.api import schemas
from llm_engineering.serving.api.errors import ErrorResponse

if TYPE_CHECKING:
    from fastapi import FastAPI

_RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
_DESCRIPTIONS = {
    400: "The request is wrong; the message says which field, and why.",
    401: "An API key is needed, or this one is unknown, expired or revoked.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    421: "The server does not answer to this host name.",
    429: "This key has asked too much for now.",
    500: "A bug; the server's log tells more under the request id.",
    503: "Busy, or the models, the index or a store are not there at the moment.",
    504: "No complete answer in time.",
}
_EVERYWHERE = (401, 421, 429, 500, 503)
_WITH_BODY = (400, 408, 413, 504)


def responses(
    model: type[BaseModel] | None,
    *,
    status: int = 200,
    stream: bool = False,
    body: bool = True,
    not_found: bool = False,
) -> dict[int | str, dict[str, Any]]:
    """Every status a route may answer with. `body`: it takes one."""
    success: dict[str, Any] = {"model": model} if model else {}
    if stream:
        success["content"] = {"text/event-stream": {}}
        success["description"] = "The answer, or with `stream` server-sent events."
    statuses = (*_EVERYWHERE, *(_WITH_BODY if body else ()), *((404,) if not_found else ()))
    return {status: success, **{number: _error(number) for number in sorted(statuses)}}


def _error(status: int) -> dict[str, Any]:
    headers = {"headers": _RETRY} if status in (429, 503) else {}
    return {"model": ErrorResponse, "description": _DESCRIPTIONS[status], **headers}


PROBE: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.ReadyOut},
    503: {"model": schemas.ReadyOut, "description": "Not yet, or not at the moment: `pieces` says why."},
}


def describe(app: "FastAPI", *, require_keys: bool) -> None:
    """FastAPI's document, without the 422 it adds (we answer 400, as OpenAI does) and with the key."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = app.openapi_schema
        if document is None:
            document = original()
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            if require_keys:
                document["security"] = [{"key": []}]
                for path in ("/health", "/ready"):
                    document["paths"][path]["get"]["security"] = []
        return document

    app.openapi = openapi
