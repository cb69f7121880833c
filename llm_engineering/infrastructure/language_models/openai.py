"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama and the rest, by its address."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from queue import Empty, Full, Queue
from random import uniform
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.domain.prompts import Prompt

if TYPE_CHECKING:
    from openai import OpenAI

CHARACTERS_PER_TOKEN = 4  # OpenAI's rule of thumb for English, where a server does not count
LONGEST_WAIT = 20.0  # seconds asked for by Retry-After that are waited out; longer ones go to who asked
POLL = 0.05  # seconds between two looks at `stop` while the server is silent
_CUT = object()  # the reader thread has ended


class OpenAIModel:
    """One model behind `base_url` (`https://…/v1`). `timeout` is in seconds, to the first piece and to each next one.

    A refused connection, 429 and 5xx are tried again up to `retries` times with growing pauses, or after the server's
    Retry-After; never once a piece was given out. Keys and passwords in addresses stay out of every message.
    """

    generative = True

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 2,
        first_backoff: float = 0.5,
    ) -> None:
        if not name.strip():
            raise ConfigError("TWIN_LANGUAGE_MODEL=openai: needs a model, as in openai:gpt-4o-mini")
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ConfigError("TWIN_OPENAI_BASE_URL is no http address: use one like http://127.0.0.1:8001/v1")
        if timeout <= 0:
            raise ConfigError(f"TWIN_OPENAI_TIMEOUT={timeout}: use a number of seconds above 0")
        self.name = name.strip()
        self._base_url, self._api_key, self._timeout = base_url, api_key, timeout
        self._retries, self._first_backoff = retries, first_backoff
        self._left_out: set[str] = set()  # what this server refused to be told

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Usage]:
        """Reasoning that a server streams apart from the answer is left out. `stop` is heard while waiting, too."""
        body = {
            "model": self.name,
            "messages": [{"role": str(one.role), "content": one.content} for one in prompt.messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        usage, finished, said = None, "", 0
        for chunk in self._chunks(body, stop):
            usage = _usage(chunk) or usage
            text, reason = self._read(chunk)
            finished = reason or finished
            if text:
                said += len(text)
                yield text
            if stop():
                return
        if stop():
            return
        self._complete(finished, said)
        yield usage or self._estimated(prompt, said)

    def check(self) -> str:
        """Asks the server which models it has; one token where it keeps no list."""
        import openai

        try:
            names = sorted(one.id for one in self._client.models.list().data or [])
        except (openai.NotFoundError, json.JSONDecodeError, AttributeError, TypeError):
            names = []  # not every server lists its models
        except openai.OpenAIError as error:
            raise self._unavailable(error) from error
        if names and self.name not in names:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise ModelUnavailable(
                f"{self._place} has no model {self.name}; it has {shown}: set TWIN_LANGUAGE_MODEL=openai:ONE-OF-THEM",
                retry=False,
            )
        if not names:
            from llm_engineering.domain.answers import Message, Role

            for _ in self.stream(Prompt(question="", messages=(Message(role=Role.USER, content="Hi"),)), max_tokens=1):
                pass
        return f"openai: {self.name} at {self._place} answers"

    # --- asking ---------------------------------------------------------------------------------------------

    def _chunks(self, body: dict[str, Any], stop: Callable[[], bool]) -> Iterator[Any]:
        """What the server sends, tried again as long as nothing came."""
        import openai

        _ = self._client.chat.completions  # importing them takes seconds that are not the server's
        for attempt in range(self._retries + 1):
            reading = _Reading(lambda: self._open(body))
            try:
                for chunk in reading.chunks(self._timeout, stop):
                    attempt = self._retries  # from here on there is no second try
                    yield chunk
                return
            except (openai.OpenAIError, OSError, ValueError, _Silence, _transport_error()) as error:
                trouble = self._unavailable(error)
                pause = self._pause(error, attempt)
                if attempt == self._retries or pause is None or not _worth_another_try(error):
                    raise trouble from error
            finally:
                reading.abandon()
            if _wait(pause, stop):
                return

    def _open(self, body: dict[str, Any]) -> Any:
        """The stream; once more without what the server says it does not know."""
        import openai

        while True:
            try:
                return self._client.chat.completions.create(**self._spoken(body))
            except openai.BadRequestError as error:
                refused = _refused_option(str(error), self._spoken(body))
                if refused is None:
                    raise
                self._left_out.add(refused)

    def _spoken(self, body: dict[str, Any]) -> dict[str, Any]:
        said = {key: value for key, value in body.items() if key not in self._left_out}
        if "max_tokens" in self._left_out and "max_completion_tokens" not in self._left_out:
            said["max_completion_tokens"] = body["max_tokens"]
        return said

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import OpenAI

        return OpenAI(base_url=self._base_url, api_key=self._api_key or "none", timeout=self._timeout, max_retries=0)

    def _pause(self, error: BaseException, attempt: int) -> float | None:
        """Seconds until the next try; None when the server asks for more than anybody waits."""
        asked = _retry_after(error)
        if asked is not None:
            return asked if asked <= LONGEST_WAIT else None
        return self._first_backoff * 2**attempt * uniform(0.75, 1.25)

    # --- judging --------------------------------------------------------------------------------------------

    def _read(self, chunk: Any) -> tuple[str, str]:
        """Its text and why it is the last one, each mostly empty. The client checks no types, so this does."""
        choices = getattr(chunk, "choices", None)
        if not choices and hasattr(chunk, "choices"):
            return "", ""  # usage comes alone
        delta = getattr(choices[0], "delta", None) if isinstance(choices, list) else None
        text = getattr(delta, "content", None) or ""
        if delta is None or not isinstance(text, str):
            raise self._unavailable(ValueError("no chunk of a chat completion"))
        return text, str(getattr(choices[0], "finish_reason", None) or "")

    def _complete(self, finished: str, said: int) -> None:
        if not finished:
            raise ModelUnavailable(f"{self._place} broke off in the middle of an answer: ask again")
        if not said:
            why = {
                "length": "its whole allowance went into reasoning: raise answer.max_tokens in configs/ask.yaml",
                "content_filter": "its content filter held the answer back: ask in other words",
            }.get(finished, "ask again, or choose another model")
            raise ModelUnavailable(f"{self.name} at {self._place} answered nothing: {why}")

    def _estimated(self, prompt: Prompt, said: int) -> Usage:
        asked = sum(len(one.content) for one in prompt.messages)
        return Usage(
            prompt_tokens=-(-asked // CHARACTERS_PER_TOKEN),
            completion_tokens=-(-said // CHARACTERS_PER_TOKEN),
            estimated=True,
        )

    @property
    def _place(self) -> str:
        """The address without a user name, a password or a query."""
        parts = urlsplit(self._base_url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") + parts.path

    def _unavailable(self, error: BaseException) -> ModelUnavailable:
        import openai

        where, after = f"{self.name} at {self._place}", _retry_after(error)
        if _silent(error):
            text = f"{where} said nothing for {self._timeout:g} s: ask again, or raise TWIN_OPENAI_TIMEOUT"
            return ModelUnavailable(text)
        if isinstance(error, openai.APIStatusError):
            code = error.status_code
            mend = _MEND.get(code, "ask again later" if code >= 500 else "the request was refused")
            said = self._safe(_message(error))
            text = f"{where} answered HTTP {code}{f' ({said})' if said else ''}: {mend}"
            return ModelUnavailable(text, retry=code in (408, 409, 429) or code >= 500, retry_after=after)
        if isinstance(error, openai.APIConnectionError):
            text = f"{where} cannot be reached: start the server, or correct TWIN_OPENAI_BASE_URL"
            return ModelUnavailable(text)
        if isinstance(error, openai.APIError):
            return ModelUnavailable(f"{where} reported an error in its answer ({self._safe(str(error))}): ask again")
        if isinstance(error, _transport_error()):
            return ModelUnavailable(f"{where} broke off in the middle of an answer: ask again")
        return ModelUnavailable(f"{where} answered something that is no chat completion: is the address right?")

    def _safe(self, text: str) -> str:
        """One short line without the key: servers like to repeat what they were given."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        text = re.sub(r"\b(?:sk|pk|key)-[\w*-]{4,}", "***", text)
        return " ".join(text.split())[:300]


_MEND = {
    401: "set TWIN_OPENAI_API_KEY to a key it knows",
    403: "the key may not use this model",
    404: "check the model in TWIN_LANGUAGE_MODEL and the path in TWIN_OPENAI_BASE_URL",
    413: "the prompt is too long: lower retrieval.token_budget in configs/ask.yaml",
    429: "it is asked too often, or a quota is used up: ask again later",
}


class _Silence(Exception):
    """No piece came in time."""


class _Reading:
    """Reads a stream in a thread of its own, so that whoever waits for it can stop waiting."""

    def __init__(self, open_stream: Callable[[], Any]) -> None:
        self._open = open_stream
        self._pieces: Queue[Any] = Queue(maxsize=64)
        self._left = Event()

    def chunks(self, timeout: float, stop: Callable[[], bool]) -> Iterator[Any]:
        """Raises what reading raised, _Silence after `timeout` seconds without a piece; ends when `stop` says so."""
        Thread(target=self._read, name="openai-stream", daemon=True).start()
        until = monotonic() + timeout
        while not stop():
            try:
                piece = self._pieces.get(timeout=POLL)
            except Empty:
                if monotonic() > until:
                    raise _Silence from None
                continue
            if piece is _CUT:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            until = monotonic() + timeout

    def abandon(self) -> None:
        """The thread ends with the next thing it hears, at the latest when its own time-out is over."""
        self._left.set()

    def _read(self) -> None:
        stream = None
        try:
            stream = self._open()
            if self._left.is_set():
                return
            for chunk in stream:
                if not self._give(chunk):
                    return
            self._give(_CUT)
        except Exception as error:  # raised again where the pieces are read
            self._give(error)
        finally:
            if stream is not None:
                with suppress(_transport_error(), OSError):
                    stream.close()

    def _give(self, piece: Any) -> bool:
        while not self._left.is_set():
            with suppress(Full):
                self._pieces.put(piece, timeout=POLL)
                return True
        return False


def _transport_error() -> type[Exception]:
    """What the client lets through while it reads a stream."""
    import httpx

    return httpx.HTTPError


def _silent(error: BaseException) -> bool:
    """Its own clock and the client's run out at the same moment; either may be first."""
    import httpx
    import openai

    return isinstance(error, openai.APITimeoutError | httpx.TimeoutException | _Silence)


def _worth_another_try(error: BaseException) -> bool:
    """Not after silence: whoever asked has waited a whole time-out already."""
    import openai

    if _silent(error):
        return False
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError | _transport_error())


def _retry_after(error: BaseException) -> float | None:
    """Seconds; a date (RFC 9110, 10.2.3) is read too."""
    from email.utils import parsedate_to_datetime

    response = getattr(error, "response", None)
    value = response.headers.get("retry-after", "").strip() if response is not None else ""
    if re.fullmatch(r"\d{1,6}(?:\.\d+)?", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    from datetime import UTC, datetime

    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None


def _refused_option(message: str, said: dict[str, Any]) -> str | None:
    """Which option a server does not know: older ones stream_options, newer models max_tokens and temperature."""
    return next(
        (name for name in ("stream_options", "max_tokens", "temperature") if name in message and name in said), None
    )


def _message(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message") or "") if isinstance(inner, dict) else str(inner)
    return str(body)[:200] if isinstance(body, str) and "<" not in body else ""


def _usage(chunk: Any) -> Usage | None:
    given = getattr(chunk, "usage", None)
    counts = [getattr(given, name, None) for name in ("prompt_tokens", "completion_tokens")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    return Usage(prompt_tokens=counts[0], completion_tokens=counts[1])


def _wait(seconds: float, stop: Callable[[], bool]) -> bool:
    """True when `stop` said so meanwhile."""
    until, pause = monotonic() + seconds, Event()
    while (left := until - monotonic()) > 0:
        if stop():
            return True
        pause.wait(min(POLL, left))
    return stop()
