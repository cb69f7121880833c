"""The files of a transformers model: whether a folder holds one, what is in it, and whether it is still the same."""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.models import ModelVersion
from llm_engineering.infrastructure.files import make_folder, open_private, sync_folder

BLOCK = 1 << 20  # bytes read at a time
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class Taken(NamedTuple):
    sha256: str  # of the names and the contents
    size: int  # bytes


def model_folder(folder: Path) -> Path:
    """The folder, resolved. Raises ConfigError when no transformers model lies there whole."""
    found = folder.expanduser().resolve()
    if not found.is_dir():
        raise ConfigError(f"{folder} is no folder: name the one that holds the model's config.json and weights")
    if (found / "adapter_config.json").is_file() and not (found / "config.json").is_file():
        raise ConfigError(f"{folder} holds an adapter without its base model: merge the two, and register the result")
    try:
        config = json.loads((found / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no transformers model: config.json is missing") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} is no transformers model: config.json cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{folder} is no transformers model: config.json is no JSON object")
    if not any(file for pattern in WEIGHTS for file in found.glob(pattern)):
        raise ConfigError(f"{folder} holds no weights ({' or '.join(WEIGHTS)}): was it downloaded whole?")
    return found


def take(folder: Path, into: Path | None = None) -> Taken:
    """Read every file, and with `into` copy it there, durably. Links to files are followed, as a hub's cache has them.

    Raises ConfigError for what is neither a file nor a folder, OSError."""
    whole, size = hashlib.sha256(), 0
    for name in _names(folder):
        digest, length = _take_file(folder / name, into / name if into else None)
        whole.update(f"{name.as_posix()}\0{digest}\n".encode())
        size += length
    if into:
        for part in (into, *(one for one in into.rglob("*") if one.is_dir()), into.parent):
            sync_folder(part)
    return Taken(whole.hexdigest(), size)


def damage(version: ModelVersion) -> str:
    """Why the files of a version cannot be what was registered, from their names and sizes; empty when they can."""
    if not (version.folder / "config.json").is_file():
        return f"{version.folder} is gone" if not version.folder.exists() else f"{version.folder} has no config.json"
    size = sum(file.stat().st_size for file in version.folder.rglob("*") if file.is_file())
    if size != version.size:
        return f"{version.folder} holds {size:,} bytes, not the {version.size:,} that were registered"
    return ""


def _names(folder: Path) -> list[Path]:
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            names.append(path.relative_to(folder))
        elif path.is_symlink() or not path.is_dir():
            raise ConfigError(f"{path} is neither a file nor a folder: a model is registered with plain files only")
    return names


def _take_file(path: Path, to: Path | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    if to:
        make_folder(to.parent)
    with path.open("rb") as source, open(to or os.devnull, "wb", opener=open_private) as copy:
        while block := source.read(BLOCK):
            digest.update(block)
            copy.write(block)
            size += len(block)
        if to:
            copy.flush()
            os.fsync(copy.fileno())
    return digest.hexdigest(), size
