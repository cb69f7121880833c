"""Makes anything fit to be written down: plain JSON, no secrets, nothing over-long, no broken characters."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any, overload

from pydantic import BaseModel, SecretBytes, SecretStr

from llm_engineering.domain.text import storable

SECRET = "[secret]"
TEXT = 20_000  # characters of one text
RECORD = 200_000  # characters of all texts of one record; after that a text keeps BRIEF
BRIEF = 200
ITEMS = 200  # of one list
DEPTH = 8
SHORTEST = 10  # characters; anything shorter is no key
MARGIN = 400  # read beyond the cut, so that a secret lying across it is still recognised

# By name: `prompt_tokens` and `token_budget` stay, `access_token` does not.
_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|authorization|cookie|credential|secret"
    r"|(?:api|access|private|signing)[\s_.-]?key$|(?:^|[\s_.-])token$",
    re.IGNORECASE,
)
# By shape: keys of the services people use, private keys, passwords in addresses and in settings. A pattern is tried
# only where one of its marks (lower case) is in the text: most texts have none, and a trace must cost next to nothing.
_SECRET_TEXTS = tuple(
    (marks, re.compile(pattern, re.DOTALL))
    for marks, pattern in (
        (("sk-", "sk_", "rk-", "rk_"), r"\b[sr]k[-_][A-Za-z0-9_-]{16,}"),
        (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
        (("github_pat_",), r"\bgithub_pat_\w{20,}"),
        (("glpat-",), r"\bglpat-[\w-]{16,}"),
        (("hf_",), r"\bhf_[A-Za-z0-9]{20,}"),
        (("xox",), r"\bxox[abeprs]-[\w-]{10,}"),
        (("akia",), r"\bAKIA[0-9A-Z]{16}\b"),
        (("aiza",), r"\bAIza[\w-]{30,}"),
        (("gsk_", "xai-", "nvapi-", "pplx-"), r"\b(?:gsk_|xai-|nvapi-|pplx-)[A-Za-z0-9]{20,}[\w-]*"),
        (("twin-",), r"\btwin-(?=[\w-]{0,42}\d)[\w-]{43}(?![\w-])"),  # this service's own
        (("eyj",), r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
        (("private key-----",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        (("@",), r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),
        (("authorization:",), r"(?i:(?<=authorization:)\s*\S+(?:\s+\S+)?)"),
        (("bearer ",), r"(?i:(?<=bearer )(?=\S*\d)[\w.~+/=-]{12,})"),
        (("password", "passwd"), r"(?i:\bpassw(?:or)?d[\"']?\s*[=:]\s*[\"']?[^\s\"',;]+)"),
        (("api_key", "api-key", "apikey"), r"(?i:\bapi[_-]?key[\"']?\s*[=:]\s*[\"']?[^\s\"',;]+)"),
    )
)

_SECRET_MARKS = tuple((mark, pattern) for marks, pattern in _SECRET_TEXTS for mark in marks)


@overload
def redact(value: str, *, room: int = RECORD) -> str: ...
@overload
def redact(value: Mapping[Any, object], *, room: int = RECORD) -> dict[str, Any]: ...
@overload
def redact(value: Sequence[object], *, room: int = RECORD) -> list[Any]: ...
def redact(value: object, *, room: int = RECORD) -> object:
    """The same as JSON data. Never raises for data; what is no data is named by its type only."""
    return _Redaction(room).value(value, 0)


class _Redaction:
    def __init__(self, room: int) -> None:
        self._room = room

    def value(self, value: object, depth: int) -> object:
        match value:
            case None | bool():
                return value
            case Enum():
                return self.value(value.value, depth)
            case str():
                return self.text(value)
            case int():
                return int(value) if abs(value) < 2**63 else "[a huge number]"
            case float():
                return float(value) if math.isfinite(value) else str(value)
            case SecretStr() | SecretBytes():
                return SECRET
            case bytes() | bytearray() | memoryview():
                return f"[{len(value)} bytes]"
            case date():
                return value.isoformat()
            case PurePath():
                return self.text(str(value))
            case BaseException():
                return self.text(f"{type(value).__name__}: {value}")
        if depth >= DEPTH:
            return "[too deep]"
        if (named := _named(value)) is not None:
            return {
                name: SECRET if secret and one else self.value(one, depth + 1)
                for (name, secret), one in ((_name(name), one) for name, one in _first(named.items()))
            }
        if isinstance(value, list | tuple | set | frozenset):
            kept = [self.value(one, depth + 1) for one in _first(value)]
            return kept if len(value) <= ITEMS else [*kept, f"[{len(value) - ITEMS} more left out]"]
        if callable(item := getattr(value, "item", None)) and not getattr(value, "shape", None):
            return self.value(item(), depth + 1)  # numpy's numbers
        return f"[{type(value).__name__}]"

    def text(self, text: str) -> str:
        limit = TEXT if self._room >= len(text) else BRIEF
        kept = _without_secrets(text[: limit + MARGIN])
        if len(text) > limit:
            kept = f"{kept[:limit]}… [{len(text) - limit} characters left out]"
        self._room -= len(kept)
        return storable(kept)


def _without_secrets(text: str) -> str:
    if len(text) < SHORTEST:
        return text
    lower = text.lower()
    for mark, pattern in _SECRET_MARKS:
        if mark in lower:
            text = pattern.sub(SECRET, text)
    return text


@lru_cache(4096)
def _name(name: object) -> tuple[str, bool]:
    """A key as it is written, and whether it names a secret."""
    text = str(name)[:BRIEF]
    return storable(_without_secrets(text)), bool(_SECRET_NAME.search(text))


def _named(value: object) -> Mapping | None:
    match value:
        case Mapping():
            return value
        case BaseModel():
            return dict(value)
    if isinstance(value, tuple) and callable(as_dict := getattr(value, "_asdict", None)):
        return as_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return None


def _first(values: Iterable) -> list:
    return [one for one, _ in zip(values, range(ITEMS), strict=False)]
