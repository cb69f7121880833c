"""A sentence-transformers model and its tokenizer, loaded or refused with what to do."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def load_model(model_id: str, folder: Path | None, *, precision: str) -> "SentenceTransformer":
    """From `folder`, or from the hub. Raises ConfigError."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"TWIN_EMBEDDER={model_id} needs the ml group ({error}): poetry install --with ml, "
            "or set TWIN_EMBEDDER=hashing:256"
        ) from error
    if folder is None and model_id.startswith(("/", ".", "~")):
        raise unusable(model_id, "there is no such folder")
    try:
        with _no_progress_bar() if folder else nullcontext():
            model = SentenceTransformer(str(folder or model_id))
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise unusable(model_id, str(error).strip().partition("\n")[0]) from error
    return model.to(dtype=_dtype(precision, model.device.type))


def unusable(model_id: str, why: str) -> ConfigError:
    offline = " HF_HUB_OFFLINE is set, so nothing is downloaded." if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return ConfigError(
        f"TWIN_EMBEDDER={model_id} cannot be loaded: {why}.{offline} Check the id or the folder, be online "
        "for the first use, or use all-MiniLM-L6-v2, which comes with the ml group"
    )


def read_tokenizer(model_id: str, file: Path) -> "Tokenizer":
    """Without torch and transformers. Raises ConfigError when the file is damaged."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise unusable(model_id, f"{file} is damaged: {error}") from error


def fast_tokenizer(model: "SentenceTransformer") -> "Tokenizer | None":
    """A copy of the model's own; None when it has no fast one."""
    from tokenizers import Tokenizer

    fast = getattr(model.tokenizer, "backend_tokenizer", None)
    return Tokenizer.from_str(fast.to_str()) if fast is not None else None


@contextmanager
def _no_progress_bar() -> Generator[None]:
    """Loading weights takes a moment, and its bar would break into the run's own."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _dtype(precision: str, device: str) -> "torch.dtype":
    import torch

    if precision == "auto":
        precision = "bfloat16" if device == "cuda" or (device == "cpu" and cpu_computes_bfloat16()) else "float32"
    return getattr(torch, precision)


def cpu_computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Only Linux says so without torch; elsewhere float32 is right, if slower."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return bool(re.search(r"\b(?:amx_bf16|avx512_bf16)\b", flags))
