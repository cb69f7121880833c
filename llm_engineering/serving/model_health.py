"""Whether the language model answers, checked in the background so that nobody waits for it."""

import time
from collections.abc import Callable
from threading import Lock, Thread

from llm_engineering.domain.errors import ModelUnavailable
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.serving.api.errors import api_error_of
from llm_engineering.serving.api.service import Component

CHECK_EVERY, CHECK_AGAIN = 15.0, 2.0  # seconds between two checks, when the model was well and when it was not


class ModelHealth:
    def __init__(self, model: LanguageModel, *, now: Callable[[], float] = time.monotonic) -> None:
        self.model, self.now = model, now
        self._reason: str | None = "it was not checked yet"
        self._checked_at = self._answered_at = 0.0
        self._checking = Lock()

    def component(self) -> Component:
        """What is known now; a check that is due is begun."""
        age = self.now() - self._checked_at
        if age > (CHECK_AGAIN if self._reason else CHECK_EVERY) and self._checking.acquire(blocking=False):
            Thread(target=self._check_and_release, name="model check", daemon=True).start()
        return Component(name="language model", ready=not self._reason, reason=self._reason or "")

    def check(self) -> None:
        began = self.now()
        try:
            self.model.check()
            self.answered()
        except ModelUnavailable as error:
            self.failed(error, began)

    def answered(self) -> None:
        self._reason, self._checked_at = None, self.now()
        self._answered_at = self._checked_at

    def failed(self, error: ModelUnavailable, began: float) -> None:
        """What was begun then could not be done; that says nothing where the model has answered since."""
        if self._answered_at <= began:
            self._reason, self._checked_at = api_error_of(error).message, self.now()

    def _check_and_release(self) -> None:
        try:
            self.check()
        finally:
            self._checking.release()
