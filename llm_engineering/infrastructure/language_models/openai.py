"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama and the rest, by its address."""

import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_engineering.domain.answers import Message, Role, Usage
from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.domain.prompts import Prompt
from llm_engineering.infrastructure.backoff import backoff
from llm_engineering.infrastructure.language_models import openai_errors as errors
from llm_engineering.infrastructure.language_models.openai_stream import ByteStream, StreamReader, StreamTimeout, wait

if TYPE_CHECKING:
    from openai import OpenAI

CHARACTERS_PER_TOKEN = 4  # OpenAI's rule of thumb for English, where a server does not count
LONGEST_WAIT = 20.0  # seconds asked for by Retry-After that are waited out; longer ones go to who asked
SMALLEST_PROMPT = Prompt(question="", messages=(Message(role=Role.USER, content="Hi"),))


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
        errors.check_address(base_url)
        if not api_key and urlsplit(base_url).hostname == "api.openai.com":
            raise ConfigError(
                f"TWIN_LANGUAGE_MODEL=openai:{name.strip()} asks api.openai.com, which wants TWIN_OPENAI_API_KEY; for "
                "a server of your own set TWIN_OPENAI_BASE_URL, as in http://127.0.0.1:8001/v1"
            )
        if not 0 < timeout < float("inf"):
            raise ConfigError(f"TWIN_OPENAI_TIMEOUT={timeout}: use a number of seconds above 0")
        self.name = name.strip()
        self._base_url, self._api_key, self._timeout = base_url, api_key, timeout
        self._retries, self._first_backoff = retries, first_backoff
        self._errors = errors.OpenAIErrors(self.name, base_url, api_key=api_key, timeout=timeout)
        self._unsupported: set[str] = set()  # options that this server does not know

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        """Reasoning that a server streams apart from the answer is left out. `stop` is heard while waiting, too."""
        usage, finish, length = None, "", 0
        with closing(self._chunks(self._body(prompt, max_tokens, temperature), stop)) as chunks:
            for chunk in chunks:
                usage = _usage(chunk) or usage
                text, reason = self._read(chunk)
                finish = reason or finish
                if text:
                    length += len(text)
                    yield text
                if stop():
                    return
        if stop():
            return
        if not finish:
            raise self._errors.broke_off()
        if not length:
            raise self._errors.empty(finish)
        yield usage or _estimated(prompt, length)

    def check(self) -> str:
        """Asks the server which models it has, and for one token where this one is not among them: many servers list
        none, or their models by other names than they answer to."""
        names = self._model_names()
        if self.name not in names:
            try:
                with closing(self._chunks(self._body(SMALLEST_PROMPT, 1, 0.0), lambda: False)) as chunks:
                    self._read(next(chunks, {}))
            except ModelUnavailable as error:
                raise self._no_such_model(error, names) from error
        return f"openai: {self.name} at {self._errors.place} answers"

    def _model_names(self) -> list[str]:
        import openai

        try:
            return sorted(one.id for one in self._client.models.list().data or [])
        except (openai.NotFoundError, json.JSONDecodeError, AttributeError, TypeError):
            return []  # not every server lists its models
        except openai.OpenAIError as error:
            raise self._errors.unavailable(error) from error

    def _no_such_model(self, error: ModelUnavailable, names: list[str]) -> ModelUnavailable:
        import openai

        if not names or not isinstance(error.__cause__, openai.NotFoundError | openai.BadRequestError):
            return error
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return ModelUnavailable(
            f"{self._errors.place} has no model {self.name}; it has {some}: set TWIN_LANGUAGE_MODEL=openai:ONE-OF-THEM",
            retry=False,
        )

    # --- asking ---------------------------------------------------------------------------------------------

    def _body(self, prompt: Prompt, max_tokens: int, temperature: float) -> dict[str, Any]:
        return {
            "model": self.name,
            "messages": [{"role": str(one.role), "content": one.content} for one in prompt.messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _chunks(self, body: dict[str, Any], stop: Callable[[], bool]) -> Generator[dict[str, Any]]:
        """What the server sends, tried again as long as nothing came."""
        import openai

        _ = self._client.chat.completions.with_streaming_response  # their import takes seconds
        for attempt in range(self._retries + 1):
            reader = StreamReader(lambda: self._open(body))
            try:
                for chunk in reader.events(self._timeout, stop):
                    attempt = self._retries  # from here on there is no second try
                    yield chunk
                return
            except (openai.OpenAIError, OSError, ValueError, StreamTimeout, errors.transport_error()) as error:
                pause = self._pause(error, attempt)
                if attempt == self._retries or pause is None or not errors.worth_retrying(error):
                    raise self._errors.unavailable(error) from error
            finally:
                reader.abandon()
            if wait(pause, stop):
                return

    @contextmanager
    def _open(self, body: dict[str, Any]) -> Generator[ByteStream]:
        """The response, not read yet; asked for once more without what the server says it does not know."""
        import openai

        create = self._client.chat.completions.with_streaming_response.create
        with ExitStack() as stack:
            response = None
            while response is None:
                request = self._supported(body)
                try:
                    response = stack.enter_context(create(**request))
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    option = errors.unsupported_option(str(error), request)
                    if option is None:
                        raise
                    self._unsupported.add(option)
            yield response

    def _supported(self, body: dict[str, Any]) -> dict[str, Any]:
        request = {key: value for key, value in body.items() if key not in self._unsupported}
        if "max_tokens" in self._unsupported and "max_completion_tokens" not in self._unsupported:
            request["max_completion_tokens"] = body["max_tokens"]
        return request

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import OpenAI

        return OpenAI(base_url=self._base_url, api_key=self._api_key or "none", timeout=self._timeout, max_retries=0)

    def _pause(self, error: BaseException, attempt: int) -> float | None:
        """Seconds until the next try; None when the server asks for more than anybody waits."""
        wanted = errors.wanted_delay(error)
        if wanted is not None:
            return wanted if wanted <= LONGEST_WAIT else None
        return backoff(attempt + 1, self._first_backoff)

    def _read(self, chunk: dict[str, Any]) -> tuple[str, str]:
        """Its text and why it is the last one, each mostly empty."""
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._errors.reported(chunk)
        choices = chunk.get("choices")
        if choices == []:
            return "", ""  # usage comes alone
        first = choices[0] if isinstance(choices, list) else None
        if isinstance(first, dict) and isinstance(delta := first.get("delta"), dict):
            text = delta.get("content") or ""
            if isinstance(text, str):
                return text, str(first.get("finish_reason") or "")
        raise self._errors.unavailable(ValueError("no chunk of a chat completion"))


def _usage(chunk: dict[str, Any]) -> Usage | None:
    try:
        return Usage.model_validate({name: chunk["usage"][name] for name in ("prompt_tokens", "completion_tokens")})
    except (KeyError, TypeError, ValueError):
        return None


def _estimated(prompt: Prompt, characters: int) -> Usage:
    return Usage(
        prompt_tokens=-(-sum(len(one.content) for one in prompt.messages) // CHARACTERS_PER_TOKEN),
        completion_tokens=-(-characters // CHARACTERS_PER_TOKEN),
        estimated=True,
    )
