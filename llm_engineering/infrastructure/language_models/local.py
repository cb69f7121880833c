"""A transformers model in this process: a folder (an export, a registry's version) or a hub id."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.chat import ChatFormat, ChatFormatError
from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.domain.prompts import Prompt
from llm_engineering.infrastructure.language_models.generation import Generation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POLL_SECONDS = 0.05  # between two looks at `stop` while another answer is being written
NO_LIMIT = 1_000_000  # tokens; transformers writes "no limit" as 1e30
FALLBACK_CONTEXT = 2048  # tokens, for a model that does not say
TRUST_REMOTE_CODE = False  # said, else transformers asks on the terminal whether to run a model's own code


class TransformersModel:
    """Loaded when first asked. It is prompted in its own chat template (see `domain/chat.py`), writes one answer at a
    time, and gets no more than fits its context: first old turns go, then the last passages.

    bfloat16 on a GPU, and on a CPU whose memory would not hold float32. Raises ConfigError when there is no such model
    or a package is missing, ModelUnavailable when it cannot be loaded or fails while writing.
    """

    generative = True

    def __init__(self, name: str) -> None:
        if not name.strip():
            raise ConfigError("TWIN_LANGUAGE_MODEL=transformers: needs a folder or a hub id after the colon")
        self._id = name.strip()
        self.name = Path(self._id).name if self._is_path else self._id
        self._generating, self._loading = Lock(), Lock()

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        """Token counts are the model's own."""
        model, tokenizer = self._loaded()
        with self._turn(stop) as is_ours:
            if not is_ours:
                return
            room = max(1, min(max_tokens, self._context // 2))
            ids = self._fit(prompt, self._context - room)
            generation = None
            try:
                generation = Generation(model, tokenizer, ids, max_tokens=room, temperature=temperature, stop=stop)
                yield from generation.pieces()
            except (RuntimeError, ValueError, IndexError) as error:  # torch: out of memory, a broken model
                raise ModelUnavailable(f"{self.name} failed while writing: {_first_line(error)}") from error
            finally:
                if generation:
                    generation.end()
            if not stop():
                yield Usage(prompt_tokens=len(ids), completion_tokens=generation.written)

    def check(self) -> str:
        """Reads the configuration and the tokenizer; the weights stay where they are."""
        place = self._place
        try:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(place, trust_remote_code=TRUST_REMOTE_CODE)
        except Exception as error:
            raise self._unusable(error) from error
        template = "its own chat template" if self._tokenizer.chat_template else "plain turns (it has no chat template)"
        return f"transformers: {self._id}, a {config.model_type} model, {template}"

    def _fit(self, prompt: Prompt, limit: int) -> list[int]:
        try:
            return ChatFormat(self._tokenizer).fit(prompt, limit)
        except ChatFormatError as error:
            raise ModelUnavailable(f"{self.name}: its chat template cannot be used ({error})", retry=False) from error

    # --- the model ------------------------------------------------------------------------------------------

    def _loaded(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        with self._loading:
            return self._model, self._tokenizer

    @cached_property
    def _model(self) -> "PreTrainedModel":
        place = self._place
        try:
            import torch
            from transformers import AutoModelForCausalLM

            device = "cuda" if torch.cuda.is_available() else "cpu"
            dtype = _dtype(device, self._folder)
            model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, trust_remote_code=TRUST_REMOTE_CODE)
            return model.to(device).eval()
        except Exception as error:
            raise self._unusable(error) from error

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        place = self._place
        try:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=TRUST_REMOTE_CODE)
            if tokenizer is None:
                raise ValueError("it has no tokenizer")
            return tokenizer
        except Exception as error:
            raise self._unusable(error) from error

    @cached_property
    def _context(self) -> int:
        """Tokens of prompt and answer together."""
        stated = (getattr(self._model.config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        limits = [int(one) for one in stated if one and one < NO_LIMIT]
        return min(limits) if limits else FALLBACK_CONTEXT

    @contextmanager
    def _turn(self, stop: Callable[[], bool]) -> Generator[bool]:
        """One answer at a time; False when `stop` came first."""
        acquired = False
        while not acquired and not stop():
            acquired = self._generating.acquire(timeout=POLL_SECONDS)
        try:
            yield acquired
        finally:
            if acquired:
                self._generating.release()

    @property
    def _is_path(self) -> bool:
        return self._id.startswith(("/", "./", "../", "~")) or Path(self._id).is_dir()

    @property
    def _folder(self) -> Path | None:
        return Path(self._id).expanduser() if self._is_path else None

    @property
    def _place(self) -> str:
        files = ("config.json", "adapter_config.json")
        if self._folder and not any((self._folder / file).is_file() for file in files):
            raise ConfigError(
                f"TWIN_LANGUAGE_MODEL=transformers:{self._id}: no model is there (config.json is missing)"
            )
        return str(self._folder or self._id)

    def _unusable(self, error: Exception) -> ConfigError | ModelUnavailable:
        """transformers, safetensors, tokenizers and the hub raise what they like over files that are no model."""
        if isinstance(error, ImportError):
            return ConfigError(
                f"TWIN_LANGUAGE_MODEL=transformers:{self._id} needs the ml group ({error}): poetry install --with ml, "
                "or set TWIN_LANGUAGE_MODEL=extractive"
            )
        offline = " HF_HUB_OFFLINE is set, so nothing is downloaded." if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        return ModelUnavailable(
            f"TWIN_LANGUAGE_MODEL=transformers:{self._id} cannot be loaded: {_first_line(error)}.{offline} Check the "
            "folder or the id, or set TWIN_LANGUAGE_MODEL=extractive",
            retry=False,
        )


def _dtype(device: str, folder: Path | None) -> "torch.dtype":
    import torch

    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder else 0
    return torch.bfloat16 if 2 * stored > _free_memory() else torch.float32


def _free_memory() -> float:
    """Bytes; without limit where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300].rstrip(".")
