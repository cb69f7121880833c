"""Errors as a client sees them: a status, a message that helps, OpenAI's shape, and never a path or a stack trace."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from llm_engineering.domain.errors import (
    BadQuestion,
    EmbeddingMismatch,
    LLMTwinError,
    ModelUnavailable,
    StoreUnavailable,
)
from llm_engineering.serving.api.service import NotReady, WorkTimeout

INVALID, AUTHENTICATION, RATE = "invalid_request_error", "authentication_error", "rate_limit_error"
SERVER = "server_error"


class ErrorDetails(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The field that is wrong, as messages[0].role")
    code: str | None


class ErrorResponse(BaseModel):
    """OpenAI's shape of an error."""

    error: ErrorDetails


class ApiError(Exception):
    """An answer other than the one asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.code, self.param = status, message, type, code, param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, int(retry_after + 0.999)))

    def body(self) -> dict[str, dict[str, str | None]]:
        details = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": details}


class _ErrorMapping(NamedTuple):
    status: int
    code: str
    message: str
    retry_after: float | None


def api_error_of(error: LLMTwinError) -> ApiError:
    """What a client is told about an error of ours. The full message, which may name paths, belongs in the log."""
    mapped = _error_mapping(error)
    kind = INVALID if mapped.status < 500 else SERVER
    return ApiError(mapped.status, mapped.message, type=kind, code=mapped.code, retry_after=mapped.retry_after)


def _error_mapping(error: LLMTwinError) -> _ErrorMapping:
    match error:
        case BadQuestion():
            return _ErrorMapping(400, "bad_question", without_paths(str(error)), None)
        case NotReady():
            return _ErrorMapping(503, "not_ready", without_paths(str(error)), error.retry_after)
        case WorkTimeout():
            return _ErrorMapping(504, "timeout", without_paths(str(error)), None)
        case ModelUnavailable():
            message = f"the language model cannot answer: {without_paths(str(error))}"
            return _ErrorMapping(503, "model_unavailable", message, (error.retry_after or 5.0) if error.retry else None)
        case EmbeddingMismatch():
            message = (
                "the index was built with another embedder or chunking than this server uses; whoever runs it "
                "should set TWIN_EMBEDDER back or run `poe run-features --rebuild`"
            )
            return _ErrorMapping(503, "embedding_mismatch", message, None)
        case StoreUnavailable():
            message = "a store this server needs cannot be reached or read at the moment; try again, or ask who runs it"
            return _ErrorMapping(503, "store_unavailable", message, 5.0)
    return _ErrorMapping(503, "unavailable", without_paths(str(error)), 5.0)


_PATH = re.compile(r"(?<![\w/.])(?:~|\.{1,2})?/[^\s,;:'\"()]+|(?<![\w/-])\.?[\w-]+(?:/[\w.-]+){2,}|\b[A-Za-z]:\\\S+")
_ADDRESS = re.compile(r"(?:\b[a-z][a-z0-9+.-]{0,40})?://[^\s,;'\"()]+", re.IGNORECASE)


def without_paths(text: str) -> str:
    """For messages that were written for whoever runs the server: no file path and no address of theirs is left."""
    return " ".join(_PATH.sub("[path]", _ADDRESS.sub("[address]", text[:2000])).split())[:1000]


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first few wrong fields, by name and reason; never the values, which may be secret or huge."""
    if errors and errors[0]["type"] == "json_invalid":
        return ApiError(
            400, f"the body is not valid JSON: {errors[0].get('ctx', {}).get('error', '')}", code="bad_json"
        )
    lines = [f"{_field_path(one['loc'])}: {_reason(one)}" for one in errors[:5]]
    more = f" (and {len(errors) - 5} more)" if len(errors) > 5 else ""
    return ApiError(
        400, "; ".join(lines) + more, code="bad_request", param=_field_path(errors[0]["loc"]) if errors else None
    )


def _field_path(loc: Sequence[str | int]) -> str:
    """("body", "messages", 0, "role") -> messages[0].role"""
    parts = [part for at, part in enumerate(loc) if at or part not in ("body", "query", "path", "header")]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    return text.encode("utf-8", "replace").decode()[:200] or "the body"


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "model_attributes_type":
        return "a JSON object is needed, sent with Content-Type: application/json"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:].encode("utf-8", "replace").decode()[:300]
