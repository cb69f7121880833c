"""Everything this platform raises on purpose. Each message says what, where and what to do."""

from traceback import walk_tb

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.runs import CrawlReport, FeatureReport


class LLMTwinError(Exception):
    """Everything this platform raises on purpose."""


class SourceError(LLMTwinError):
    """A link could not be read; says which, why, and whether to try again. `detail` is one short line."""

    def __init__(self, link: str, reason: Reason, detail: str = "", *, retry: bool) -> None:
        self.link, self.reason, self.detail, self.retry = link, reason, detail, retry
        text = f"{reason}: {detail}" if detail else str(reason)
        super().__init__(link, reason, detail, retry)
        self._text = f"{link}: {text} ({'try again later' if retry else 'trying again will not help'})"

    def __str__(self) -> str:
        return self._text

    def __reduce__(self):
        return _source_error, (type(self), self.link, self.reason, self.detail, self.retry)


def _source_error(kind, link, reason, detail, retry):
    return kind(link, reason, detail, retry=retry)


class CleaningError(LLMTwinError):
    """The text of one document cannot be got out of its body: why. The raw body stays stored."""


class OverBudget(LLMTwinError):
    """One document, page or answer took more time or memory than it may: how much, and `place`, where it was."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message, place)
        self.place = place

    def __str__(self) -> str:
        return f"{self.args[0]} (at {self.place})" if self.place else self.args[0]


class NotModified(LLMTwinError):
    """The link still holds what its validators (ETag, Last-Modified, commit) stand for. Not a failure."""


class TooFewRead(LLMTwinError):
    """Fewer links of an author could be read than the config allows, so the step must not look green.

    Everything that was read is stored and recorded; `report` says what that was."""

    def __init__(self, message: str, report: CrawlReport | None = None) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return self.args[0]


class TooFewIndexed(LLMTwinError):
    """Fewer documents could be indexed than the config allows, so the step must not look green.

    The others are published; `report` says what was done."""

    def __init__(self, message: str, report: FeatureReport | None = None) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return self.args[0]


class ConfigError(LLMTwinError):
    """A config or a setting is wrong: which file, which key, what would be right."""


class StoreUnavailable(LLMTwinError):
    """A store is down, locked by another process, full or unreadable: which one, and what to do."""


class StoreLocked(StoreUnavailable):
    """Another process is writing the store right now."""


class StoreCorrupt(StoreUnavailable):
    """What is on disk is not what was written; says how to rebuild or restore it."""


class EmbeddingMismatch(LLMTwinError):
    """The store was filled with another embedder or chunking than the one asking; says how to rebuild."""


class TokenExpired(LLMTwinError):
    """The change feed no longer reaches back to this token: read everything again."""


class WouldEmptyIndex(LLMTwinError):
    """A run would remove most of the index, or let it follow another warehouse: which, how much, and what allows it.
    Nothing was changed."""


class AuthorErased(LLMTwinError):
    """An author was erased while a run was still reading them. Nothing of what it read since was written."""


class LinkConflict(LLMTwinError):
    """Two documents claim one canonical link."""


class ModelUnavailable(LLMTwinError):
    """The language model is down, slow, refuses or answers nonsense; says which, and whether to try again."""

    def __init__(self, message: str, *, retry: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry, self.retry_after = retry, retry_after
        self.said = ""  # what a reader was shown before it failed half-way


class ModelNotFound(LLMTwinError):
    """The registry holds no such version of a model: what is not there, what is there, and what to run."""


class BadQuestion(LLMTwinError):
    """The question cannot be asked as it is: empty, too long, or asking for more passages than there may be."""


def raised_at(error: BaseException) -> str:
    """The module and line that raised, and the last of ours before it; `error.raised_at` where another process knew."""
    if place := vars(error).get("raised_at"):
        return place
    frames = walk_tb(error.__traceback__)
    places = [f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in frames] or ["?"]
    ours = next((place for place in reversed(places) if place.startswith("llm_engineering.")), places[-1])
    return places[-1] if ours == places[-1] else f"{places[-1]}, called from {ours}"
