"""What goes wrong with an OpenAI-compatible server, in words that say how to mend it; without keys and passwords."""

import re
from typing import Any
from urllib.parse import urlsplit

from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.infrastructure.backoff import retry_after
from llm_engineering.infrastructure.language_models.openai_stream import StreamTimeout

_REMEDIES = {
    401: "set TWIN_OPENAI_API_KEY to a key it knows",
    403: "the key may not use this model",
    404: "check the model in TWIN_LANGUAGE_MODEL and the path in TWIN_OPENAI_BASE_URL",
    413: "the prompt is too long: lower retrieval.token_budget in configs/ask.yaml",
    429: "it is asked too often, or a quota is used up: ask again later",
}
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|does not support|unknown|unrecogni[sz]ed|not (?:permitted|allowed)|unexpected", re.I
)


class OpenAIErrors:
    """Speaks of one model at one address. `base_url` must have passed `check_address`."""

    def __init__(self, name: str, base_url: str, *, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
        self.place = f"{parts.scheme}://{parts.hostname}{port}{parts.path}"  # no user, password or query
        self._where, self._api_key, self._timeout = f"{name} at {self.place}", api_key, timeout

    def unavailable(self, error: BaseException) -> ModelUnavailable:
        import openai

        where = self._where
        if timed_out(error):
            return ModelUnavailable(
                f"{where} said nothing for {self._timeout:g} s: ask again, or raise TWIN_OPENAI_TIMEOUT"
            )
        if isinstance(error, openai.APIStatusError):
            code = error.status_code
            remedy = _REMEDIES.get(code, "ask again later" if code >= 500 else "the request was refused")
            message = self._safe(_message(error.body))
            text = f"{where} answered HTTP {code}{f' ({message})' if message else ''}: {remedy}"
            return ModelUnavailable(text, retry=_is_transient(code), retry_after=wanted_delay(error))
        if isinstance(error, openai.APIConnectionError):
            return ModelUnavailable(f"{where} cannot be reached: start the server, or correct TWIN_OPENAI_BASE_URL")
        if isinstance(error, transport_error()):
            return self.broke_off()
        return ModelUnavailable(f"{where} answered something that is no chat completion: is the address right?")

    def broke_off(self) -> ModelUnavailable:
        return ModelUnavailable(f"{self._where} broke off in the middle of an answer: ask again")

    def reported(self, body: object) -> ModelUnavailable:
        """An error where a piece of the answer should be."""
        return ModelUnavailable(
            f"{self._where} reported an error in its answer ({self._safe(_message(body)) or 'no reason'}): ask again"
        )

    def empty(self, finished: str) -> ModelUnavailable:
        why = {
            "length": "its whole allowance went into reasoning: raise answer.max_tokens in configs/ask.yaml",
            "content_filter": "its content filter held the answer back: ask in other words",
        }.get(finished, "ask again, or choose another model")
        return ModelUnavailable(f"{self._where} answered nothing: {why}")

    def _safe(self, text: str) -> str:
        """One short line without the key: servers like to repeat what they were given."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        text = re.sub(r"\b(?:sk|pk|key)-[\w*-]{4,}", "***", text)
        return " ".join(text.split())[:300]


def check_address(base_url: str) -> None:
    """Raises ConfigError, which does not show the address: it may hold a password."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", base_url)
        _ = parts.port
    except ValueError:  # a port that is no number, half a bracket
        usable = False
    if not usable:
        raise ConfigError("TWIN_OPENAI_BASE_URL is no http address: use one like http://127.0.0.1:8001/v1")


def transport_error() -> type[Exception]:
    """What the client lets through while it reads a stream."""
    import httpx

    return httpx.HTTPError


def timed_out(error: BaseException) -> bool:
    """Its own clock and the client's run out at the same moment; either may be first."""
    import httpx
    import openai

    return isinstance(error, (openai.APITimeoutError, httpx.TimeoutException, StreamTimeout))


def worth_retrying(error: BaseException) -> bool:
    """Not after silence: whoever asked has waited a whole time-out already."""
    import openai

    if timed_out(error):
        return False
    if isinstance(error, openai.APIStatusError):
        return _is_transient(error.status_code)
    return isinstance(error, (openai.APIConnectionError, transport_error()))


def _is_transient(status: int) -> bool:
    return status in (408, 409, 429) or status >= 500


def wanted_delay(error: BaseException) -> float | None:
    """Seconds that the server asks to wait; None when it says nothing of it."""
    response = getattr(error, "response", None)
    return retry_after(response.headers.get("retry-after")) if response is not None else None


def unsupported_option(message: str, request: dict[str, Any]) -> str | None:
    """Which option a server does not know: older ones stream_options, newer models max_tokens and temperature. One
    that it knows and whose value it refuses (a prompt and max_tokens beyond its context) is none."""
    if not _UNSUPPORTED.search(message):
        return None
    names = ("stream_options", "max_tokens", "temperature")
    return next((name for name in names if name in request and re.search(rf"\b{name}\b", message)), None)


def _message(body: object) -> str:
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message") or "") if isinstance(inner, dict) else str(inner)
    return body[:200] if isinstance(body, str) and "<" not in body else ""
