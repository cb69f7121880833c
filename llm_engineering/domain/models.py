"""Models that were trained or brought here, and which of them is in use."""

import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.noun import Noun

AUTHORS = "authors"  # the fact that names whose writing a version was trained on: author ids, a space between
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

Facts = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=100)],
        Annotated[str, Field(max_length=2000)] | FiniteFloat,
    ],
    Field(max_length=100),
]


class Stage(StrEnum):
    """Of a version; at most one of a model is in production, and one in staging."""

    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


class ModelVersion(Noun):
    """One set of weights. They never change: other weights are another version."""

    name: str = Field(pattern=f"^{NAME}$")
    version: int = Field(ge=1)
    stage: Stage | None = None  # None: registered, and never promoted
    folder: Path  # where transformers reads it
    created: datetime
    facts: Facts = {}  # what is known of it: the data and the template it was trained with, what it scored
    sha256: str  # of the names and the contents of its files
    size: int  # bytes of all its files
    erased_authors: tuple[str, ...] = ()  # ids of those it was trained on whose data was erased since

    @property
    def authors(self) -> frozenset[str]:
        """Ids of whose writing it was trained on, as its fact `AUTHORS` says; empty when it says nothing."""
        return frozenset(str(self.facts.get(AUTHORS, "")).split())

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class ModelReference(NamedTuple):
    """NAME, NAME@VERSION or NAME@STAGE, as a person writes it; NAME alone is what is in production."""

    name: str
    which: int | Stage

    def __str__(self) -> str:
        return self.name if self.which is Stage.PRODUCTION else f"{self.name}@{self.which}"


def read_reference(text: str) -> ModelReference:
    """Raises ConfigError that says how one is written."""
    name, mark, which = text.partition("@")
    check_model_name(name)
    if not mark:
        return ModelReference(name, Stage.PRODUCTION)
    if re.fullmatch(r"[1-9][0-9]{0,8}", which, re.ASCII):
        return ModelReference(name, int(which))
    if which in tuple(Stage):
        return ModelReference(name, Stage(which))
    raise ConfigError(f"{text!r} names no version of a model: write {name}, {name}@2 or {name}@{Stage.STAGING}")


def check_model_name(name: str) -> None:
    """Raises ConfigError."""
    if not re.fullmatch(NAME, name, re.ASCII):
        raise ConfigError(
            f"{name[:80]!r} cannot be the name of a model: up to 64 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or a digit"
        )


def check_facts(facts: dict[str, str | float]) -> dict[str, str | float]:
    """As they are kept: numbers as floats. Raises ConfigError."""
    try:
        return TypeAdapter(Facts).validate_python(facts)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"][:1])) or "they"
        raise ConfigError(f"facts about a model are short texts and finite numbers; {where}: {first['msg']}") from None
