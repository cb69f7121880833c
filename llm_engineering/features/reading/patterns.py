"""Which files a config line wants: its options `include` and `exclude`."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.source import Target


class FilePatterns(NamedTuple):
    include: Sequence[str]  # none: every file
    exclude: Sequence[str]

    def want(self, name: str) -> bool:
        """`name` is below the root, with slashes."""
        return (not self.include or _matches(name, self.include)) and not _matches(name, self.exclude)


def patterns_of(target: Target) -> FilePatterns:
    """Raises SourceError(BAD_LINK) for options that are no patterns."""
    return FilePatterns(_patterns(target, "include"), _patterns(target, "exclude"))


def _patterns(target: Target, option: str) -> list[str]:
    match target.options.get(option, []):
        case str() as one:
            return [one]
        case list() as many if all(isinstance(one, str) for one in many):
            return [str(one) for one in many]
    detail = f"{option} is a pattern or a list of patterns, such as '*.md'"
    raise SourceError(target.link, Reason.BAD_LINK, detail, retry=False)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """`*.md` and `drafts/*` alike: against the name below the root, and against the last part of it."""
    return any(fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern) for pattern in patterns)
