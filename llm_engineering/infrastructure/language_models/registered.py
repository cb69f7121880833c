"""A version of the model registry, run in this process."""

import time
from collections.abc import Callable, Generator
from threading import Lock
from typing import NamedTuple, Protocol

from loguru import logger

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.errors import ModelNotFound, ModelUnavailable, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.models import ModelVersion, Stage, read_reference
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.domain.prompts import Prompt
from llm_engineering.infrastructure.language_models.local import TransformersModel

REFRESH_SECONDS = 5.0  # between two look-ups in the registry while questions are answered


class VersionFinder(Protocol):
    """What is used of a Registry."""

    def find(self, name: str, which: int | Stage = ...) -> ModelVersion: ...


class _Loaded(NamedTuple):
    version: ModelVersion
    model: LanguageModel


class RegistryModel:
    """NAME (what is in production), NAME@VERSION or NAME@STAGE, found in the registry when it is first needed.

    Another version that is promoted answers from then on; what was begun is finished by the one that began it. While
    the registry cannot be reached, the loaded version goes on. Raises ConfigError for a name that cannot be one."""

    generative = True

    def __init__(
        self,
        name: str,
        *,
        registry: VersionFinder,
        load: Callable[[str], LanguageModel] = TransformersModel,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._reference = read_reference(name)
        self.name = name
        self._registry, self._load, self._refresh_seconds = registry, load, refresh_seconds
        self._lock, self._refreshed_at = Lock(), 0.0
        self._loaded: _Loaded | None = None

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        version, model = self._current(self._refresh_seconds)
        try:
            yield from model.stream(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop)
        except ModelUnavailable as error:
            raise _naming_version(error, version) from error

    def check(self) -> str:
        """Looks into the registry, and as the model itself does."""
        version, model = self._current(0.0)
        try:
            found = model.check()
        except ModelUnavailable as error:
            raise _naming_version(error, version) from error
        return f"registry: {version} ({version.stage or 'not promoted'}); {found}"

    def _current(self, max_age: float) -> _Loaded:
        """The version to use, looked up again when that was `max_age` seconds ago. Raises ModelUnavailable."""
        with self._lock:
            if self._loaded is None or time.monotonic() - self._refreshed_at >= max_age:
                self._loaded = self._look_up()
                self._refreshed_at = time.monotonic()
            return self._loaded

    def _look_up(self) -> _Loaded:
        """What is loaded is given up when it is no longer to be used, and kept while the registry is out of reach."""
        loaded = self._loaded
        try:
            version = self._registry.find(*self._reference)
        except (ModelNotFound, StoreCorrupt) as error:
            self._loaded = None
            raise ModelUnavailable(str(error), retry=False) from error
        except StoreUnavailable as error:
            if loaded is None:
                raise ModelUnavailable(str(error)) from error
            logger.warning("{} goes on answering: {}", loaded.version, error)
            return loaded
        if loaded is not None and loaded.version.folder == version.folder:
            return _Loaded(version, loaded.model)  # its stage may be another
        logger.info("{} answers from now on", version)
        return _Loaded(version, self._load(str(version.folder)))


def _naming_version(error: ModelUnavailable, version: ModelVersion) -> ModelUnavailable:
    return ModelUnavailable(f"{version} cannot answer: {error}", retry=error.retry, retry_after=error.retry_after)
