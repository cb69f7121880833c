"""A YAML file becomes the one frozen model that is the pipeline's parameter, or an error that says what to mend.

Relative paths in a config mean the same as everywhere else (settings, the command line): they start at the folder
the command is run in.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from llm_engineering.domain.errors import ConfigError
from llm_engineering.inference.config import AskConfig

FOLDER = Path("configs")
M = TypeVar("M", bound=BaseModel)


def load_config(name: str, model: type[M], path: Path | None = None) -> M:
    """`path` None: configs/NAME.yaml. Raises ConfigError with file, line, key and what would be right."""
    path = path or FOLDER / f"{name}.yaml"
    raw, lines = _parse(path, _read(path))
    return _validate(model, raw, path, lines)


def load_ask_config(path: Path | None = None) -> AskConfig:
    """`path` None: configs/ask.yaml, or the defaults where there is none. Raises as `load_config`."""
    if path is None and not (FOLDER / "ask.yaml").exists():
        return AskConfig()
    return load_config("ask", AskConfig, path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else FOLDER
        there = sorted(str(file) for file in folder.glob("*.y*ml"))
        found = f"there is: {', '.join(there)}" if there else f"no configs in {folder.resolve()}"
        raise ConfigError(f"no such config: {path} (looked in {path.absolute().parent}); {found}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


Lines = dict[tuple[str | int, ...], int]


def _parse(path: Path, text: str) -> tuple[Any, Lines]:
    """The plain data, and for every key path the line it stands on (from 1)."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(node, (), path)) if node else {}
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def _lines(node: Any, at: tuple[str | int, ...], path: Path) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield at, node.start_mark.line + 1
    if node.id == "sequence":
        for i, item in enumerate(node.value):
            yield from _lines(item, (*at, i), path)
    if node.id == "mapping":
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            # PyYAML keeps the last of two equal keys and forgets the first
            if key.value in seen:
                raise ConfigError(f"{path}, line {line}: {key.value!r} stands on line {seen[key.value]} already")
            seen[key.value] = line
            yield from _lines(value, (*at, key.value), path)
            yield (*at, key.value), line


def _validate(model: type[M], raw: Any, path: Path, lines: Lines) -> M:
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: a config is a list of `key: value` lines, not {type(raw).__name__}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = [_explain(model, one, path, lines) for one in error.errors(include_url=False)]
        raise ConfigError("\n".join(found)) from None


def _explain(model: type[BaseModel], error: Mapping[str, Any], path: Path, lines: Lines) -> str:
    at = tuple(error["loc"])
    line = next((lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in lines), None)
    where = f"{path}, line {line}" if line else str(path)
    key = dotted(at) or "the whole file"
    match error["type"]:
        case "extra_forbidden":
            return f"{where}: {key}: no such key; {_near(str(at[-1]), _keys(model, at[:-1]))}"
        case "missing":
            return f"{where}: {key}: is missing, and has no default"
        case "too_short":
            return f"{where}: {key}: is empty; give at least one"
        case "value_error":
            return f"{where}: {key}: {error['ctx']['error']}"
    given = repr(error["input"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{where}: {key}: {message}, not {given if len(given) < 80 else given[:77] + '…'}"


def dotted(at: tuple[str | int, ...]) -> str:
    """("authors", 0, "name") -> authors[0].name"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(known)}"


def _keys(model: type[BaseModel], at: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand at a place of a config."""
    for part in at:
        if isinstance(part, str):
            model = _model_in(model.model_fields[part].annotation)
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
