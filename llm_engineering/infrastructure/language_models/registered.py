"""A version of the model registry, run in this process."""

import time
from collections.abc import Callable, Generator
from threading import Lock

from loguru import logger

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.errors import ModelNotFound, ModelUnavailable, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.models import ModelVersion, read_reference
from llm_engineering.domain.ports import LanguageModel, Registry
from llm_engineering.domain.prompts import Prompt
from llm_engineering.infrastructure.language_models.local import TransformersModel

LOOK_EVERY = 5.0  # seconds between two looks into the registry while questions are answered


class RegistryModel:
    """NAME (what is in production), NAME@VERSION or NAME@STAGE, found in the registry when it is first needed.

    Another version that is promoted answers from then on; what was begun is finished by the one that began it. While
    the registry cannot be asked, the version in hand goes on. Raises ConfigError for a name that cannot be one."""

    generative = True

    def __init__(
        self,
        name: str,
        *,
        registry: Registry,
        load: Callable[[str], LanguageModel] = TransformersModel,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._reference = read_reference(name)
        self.name = name
        self._registry, self._load, self._look_every = registry, load, look_every
        self._lock, self._looked = Lock(), 0.0
        self._current: tuple[ModelVersion, LanguageModel] | None = None

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        version, model = self._now(self._look_every)
        try:
            yield from model.stream(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop)
        except ModelUnavailable as error:
            raise _cannot(version, error) from error

    def check(self) -> str:
        """Looks into the registry, and as the model itself does."""
        version, model = self._now(0.0)
        try:
            found = model.check()
        except ModelUnavailable as error:
            raise _cannot(version, error) from error
        return f"registry: {version} ({version.stage or 'not promoted'}); {found}"

    def _now(self, age: float) -> tuple[ModelVersion, LanguageModel]:
        """The version to use, looked for again when the last look is `age` seconds old."""
        with self._lock:
            if self._current is None or time.monotonic() - self._looked >= age:
                self._look()
            return self._current

    def _look(self) -> None:
        """Raises ModelUnavailable; what was in hand is then given up, unless only the registry is out of reach."""
        try:
            found = self._registry.find(*self._reference)
        except (ModelNotFound, StoreCorrupt) as error:
            self._current = None
            raise ModelUnavailable(str(error), retry=False) from error
        except StoreUnavailable as error:
            if self._current is None:
                raise ModelUnavailable(str(error)) from error
            logger.warning("{} goes on answering: {}", self._current[0], error)
        else:
            self._adopt(found)
        self._looked = time.monotonic()

    def _adopt(self, found: ModelVersion) -> None:
        if self._current is None or self._current[0].folder != found.folder:
            logger.info("{} answers from now on", found)
            self._current = found, self._load(str(found.folder))
        else:
            self._current = found, self._current[1]  # its stage may be another


def _cannot(version: ModelVersion, error: ModelUnavailable) -> ModelUnavailable:
    return ModelUnavailable(f"{version} cannot answer: {error}", retry=error.retry, retry_after=error.retry_after)
