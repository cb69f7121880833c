"""Texts into vectors: any sentence-transformers model, or hashed words where no model is wanted."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.chunks import EmbeddingSpec
from llm_engineering.domain.errors import ConfigError
from llm_engineering.infrastructure.model_files import canonical_id, local_folder, read_spec

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"\w+")
_SORTED_TOGETHER = 4096  # texts
_ONE_THREAD = 500  # characters, about what a question has
_COUNTED_TOGETHER = 1024  # texts per call of the tokenizer, which keeps every token of a call in memory


class SentenceTransformerEmbedder:
    """A sentence-transformers model by its hub id or folder; `all-MiniLM-L6-v2` comes with an installed package.

    Nothing is loaded until it is needed: `spec` and `count_tokens` read the model's small files, only `embed` loads
    torch. `precision` "auto" is bfloat16 on GPUs and on CPUs that compute in it (AMX-BF16, AVX512-BF16), where it
    is several times as fast with a cosine error below 1e-3, and float32 elsewhere. Raises ConfigError when the model
    cannot be had.
    """

    def __init__(self, model_id: str, precision: str = "auto") -> None:
        if not model_id.strip():
            raise ConfigError("TWIN_EMBEDDER is empty: use all-MiniLM-L6-v2, a hub id, a model folder or hashing:256")
        if precision not in PRECISIONS:
            raise ConfigError(f"TWIN_EMBEDDER_PRECISION={precision}: use {', '.join(PRECISIONS)}")
        self.model_id, self.precision = canonical_id(model_id.strip()), precision
        self._lock = RLock()  # two threads must not load the model at once, nor the tokenizer inside it be shared

    @cached_property
    def spec(self) -> EmbeddingSpec:
        folder = self._folder
        spec = read_spec(self.model_id, folder) if folder else None
        if spec is not None:
            return spec
        with self._lock:
            model = self._model
        size = model.get_embedding_dimension()
        limit = model.max_seq_length or model.tokenizer.model_max_length
        if not size or not limit or limit > 1_000_000:  # transformers writes "no limit" as 1e30
            raise ConfigError(f"TWIN_EMBEDDER={self.model_id}: it does not say its vector size and its token limit")
        return EmbeddingSpec(model_id=self.model_id, size=size, max_tokens=limit)

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """(len(texts), spec.size) float32, rows of unit length. Longer texts are cut at `spec.max_tokens`."""
        import numpy as np

        if not texts:
            return np.empty((0, self.spec.size), np.float32)
        sound = [_sound(text) for text in texts]
        with self._lock, self._fitting_threads(sound):
            if self._cutting_tokenizer is None:
                rows = self._model.encode(sound, batch_size=self._batch_size, show_progress_bar=False)
                return _unit_length(np.asarray(rows, np.float32))
            spans = [sound[at : at + _SORTED_TOGETHER] for at in range(0, len(sound), _SORTED_TOGETHER)]
            return _unit_length(np.concatenate([self._encode(span) for span in spans]))

    def embed_tokens(self, texts: Sequence[str]) -> "list[np.ndarray]":
        """One (tokens, size) float32 array per text, rows of unit length, special tokens left out. Longer texts are
        cut at `spec.max_tokens`. Raises ConfigError when the model has no vectors of single tokens.

        They come from the middle of the model where it can be halved, as those of BERTScore do (Zhang et al., ICLR
        2020): there a token says more of itself. On real articles, MaxSim over dense hits found MRR@10 0.511
        and 0.471 on two halves with 3 of 6 layers, 0.486 and 0.470 with all, in 212 ms instead of 380 for 20 passages.
        """
        if not texts:
            return []
        sound = [_sound(text) for text in texts]
        before, after = self._special_tokens
        try:
            with self._lock, self._fitting_threads(sound):
                found = self._tokens(sound)
        except KeyError as error:  # static embeddings, for one, are averaged at once
            raise ConfigError(
                f"TWIN_EMBEDDER={self.model_id} gives no vectors of single tokens; set retrieval.rerank to none"
            ) from error
        return [_unit_length(rows[before : len(rows) - after].float().cpu().numpy()) for rows in found]

    def _tokens(self, texts: list[str]) -> list[Any]:
        """(tokens, size) of each text, special tokens among them."""
        if self._cutting_tokenizer is None:
            how = {"output_value": "token_embeddings", "convert_to_numpy": False, "show_progress_bar": False}
            return self._model.encode(texts, batch_size=self._batch_size, **how)
        found: list[Any] = [None] * len(texts)
        for made, order, lengths in self._forward(texts, self._lower_half):
            for row, (i, length) in enumerate(zip(order, lengths, strict=True)):
                found[i] = made["token_embeddings"][row, :length]
        return found

    @cached_property
    def _lower_half(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """The model without its upper layers, whose other weights it shares; the whole of it where it is built in
        another way than BERT."""
        whole = getattr(self._model[0], "auto_model", None)
        encoder = getattr(whole, "encoder", None)
        layers = getattr(encoder, "layer", None)
        if layers is None or not hasattr(whole, "pooler"):
            return self._model.forward
        half = _with_parts(whole, encoder=_with_parts(encoder, layer=layers[: (len(layers) + 1) // 2]), pooler=None)
        return lambda features: {"token_embeddings": half(**features).last_hidden_state}

    def _fitting_threads(self, texts: Sequence[str]) -> AbstractContextManager:
        """One thread for a question: two take 3/4 of the time on a machine with nothing else to do, but wait for each
        other in busy loops, and on a busy one take ten times as long (2 cores, 8 ms against 6, and 20 against 200)."""
        if sum(map(len, texts)) > _ONE_THREAD:
            return nullcontext()
        return self._threads.limit(limits=1)

    @cached_property
    def _threads(self) -> Any:
        """OpenMP's, whose number is each thread's own."""
        from threadpoolctl import ThreadpoolController

        _ = self._model  # loads the libraries that are looked for
        return ThreadpoolController().select(internal_api="openmp")

    @property
    def _batch_size(self) -> int:
        return 128 if self._model.device.type == "cuda" else 8 if self._in_bfloat16 else 32

    def _encode(self, texts: list[str]) -> "np.ndarray":
        import numpy as np

        rows = np.empty((len(texts), self.spec.size), np.float32)
        for made, order, _ in self._forward(texts, self._model.forward):
            rows[order] = made["sentence_embedding"].float().cpu().numpy()
        return rows

    def _forward(
        self, texts: list[str], model: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], list[int], list[int]]]:
        """Batch after batch: what `model` made of it, which texts it holds, and how many tokens each of them has.

        The model's own `encode` sorts by characters; sorted by tokens there is next to no padding (0.3 % of the tokens
        instead of 23 %, on real articles in batches of 8).
        """
        import torch

        encodings = self._cutting_tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i]))
        for at in range(0, len(order), self._batch_size):
            batch = order[at : at + self._batch_size]
            lengths = [len(encodings[i]) for i in batch]
            ids = torch.full((len(batch), lengths[0]), self._model.tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for row, (i, length) in enumerate(zip(batch, lengths, strict=True)):
                ids[row, :length], mask[row, :length] = torch.tensor(encodings[i].ids), 1
            features = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
            with torch.inference_mode():
                made = model(features)
            yield made, batch, lengths

    @cached_property
    def _cutting_tokenizer(self) -> Any | None:
        """The model's own, cutting at the limit; None for a model that does more with a text than read its tokens."""
        from tokenizers import Tokenizer

        model = self._model
        fast, limit = getattr(model.tokenizer, "backend_tokenizer", None), model.max_seq_length
        usual = self._folder is not None and read_spec(self.model_id, self._folder) is not None
        prompted = model.default_prompt_name or getattr(model[0], "do_lower_case", False)
        if not usual or prompted or fast is None or limit is None or model.tokenizer.pad_token_id is None:
            return None
        tokenizer = Tokenizer.from_str(fast.to_str())
        tokenizer.enable_truncation(limit)
        tokenizer.no_padding()
        return tokenizer

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        with self._lock:
            tokenizer = self._tokenizer
        counts: list[int] = []
        for at in range(0, len(texts), _COUNTED_TOGETHER):
            batch = [_sound(text) for text in texts[at : at + _COUNTED_TOGETHER]]
            counts += [len(encoding) for encoding in tokenizer.encode_batch_fast(batch)]
        return counts

    @cached_property
    def _folder(self) -> Path | None:
        return local_folder(self.model_id)

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy of the model's own, which neither cuts nor pads."""
        from tokenizers import Tokenizer

        file = self._folder / "tokenizer.json" if self._folder else None
        if file and file.is_file():
            try:
                tokenizer = Tokenizer.from_file(str(file))
            except Exception as error:  # tokenizers raises nothing narrower
                raise self._unusable(f"{file} is damaged: {error}") from error
        else:
            fast = getattr(self._model.tokenizer, "backend_tokenizer", None)
            if fast is None:
                raise self._unusable("it has no fast tokenizer (tokenizer.json)")
            tokenizer = Tokenizer.from_str(fast.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _special_tokens(self) -> tuple[int, int]:
        """How many the encoder puts before a text and after it."""
        mask = self._tokenizer.encode("a").special_tokens_mask
        text = [i for i, special in enumerate(mask) if not special]
        return text[0], len(mask) - 1 - text[-1]

    @cached_property
    def _model(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f"TWIN_EMBEDDER={self.model_id} needs the ml group ({error}): poetry install --with ml, "
                "or set TWIN_EMBEDDER=hashing:256"
            ) from error
        if self._folder is None and self.model_id.startswith(("/", ".", "~")):
            raise self._unusable("there is no such folder")
        try:
            with _no_progress_bar() if self._folder else nullcontext():
                model = SentenceTransformer(str(self._folder or self.model_id))
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise self._unusable(str(error).strip().partition("\n")[0]) from error
        return model.to(dtype=_dtype(self.precision, model.device.type))

    @property
    def _in_bfloat16(self) -> bool:
        return "bfloat16" in str(self._model.dtype)

    def _unusable(self, why: str) -> ConfigError:
        offline = " HF_HUB_OFFLINE is set, so nothing is downloaded." if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        return ConfigError(
            f"TWIN_EMBEDDER={self.model_id} cannot be loaded: {why}.{offline} Check the id or the folder, be online "
            "for the first use, or use all-MiniLM-L6-v2, which comes with the ml group"
        )


class HashingEmbedder:
    """Words hashed into `size` signed buckets (Weinberger et al., "Feature Hashing for Large Scale Multitask
    Learning", 2009), weighted by the root of their count. No model, the same everywhere; finds words, not meanings."""

    def __init__(self, size: int = 256) -> None:
        if not 8 <= size <= 65_536:
            raise ConfigError(f"TWIN_EMBEDDER=hashing:{size}: use a size between 8 and 65536, as hashing:256")
        self.spec = EmbeddingSpec(model_id="hashing", size=size, max_tokens=256)

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        import numpy as np

        rows = np.zeros((len(texts), self.spec.size), np.float32)
        for row, text in zip(rows, texts, strict=True):
            hashes = np.fromiter((_word_hash(word) for word in _WORD.findall(text.lower())), np.uint64)
            buckets = (hashes >> np.uint64(1)) % np.uint64(self.spec.size)
            signs = 1.0 - 2.0 * (hashes & np.uint64(1)).astype(np.float64)
            sums = np.bincount(buckets.astype(np.int64), signs, minlength=self.spec.size)
            row[:] = np.sign(sums) * np.sqrt(np.abs(sums))
        return _unit_length(rows)

    def embed_tokens(self, texts: Sequence[str]) -> "list[np.ndarray]":
        """One (words, spec.size) float32 array per text: each word's bucket and sign."""
        return [self.embed(_WORD.findall(text)) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words, and two as the special tokens other encoders add."""
        return [len(_WORD.findall(text)) + 2 for text in texts]


@lru_cache(maxsize=100_000)
def _word_hash(word: str) -> int:
    """Of the word alone, not of the process."""
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _with_parts(module: Any, **parts: Any) -> Any:
    """A copy of a torch module with other parts in it; the rest is shared."""
    changed = copy(module)
    changed._modules = {**module._modules, **parts}
    return changed


def _unit_length(rows: "np.ndarray") -> "np.ndarray":
    """A row without direction (no word in the text) becomes the first axis, so that every row can be compared."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows[lengths[:, 0] == 0, 0] = 1.0
    return rows / np.where(lengths == 0, 1.0, lengths)


def _sound(text: str) -> str:
    """A lone surrogate cannot be encoded, and the tokenizer would refuse the whole batch."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading weights takes a moment, and its bar would break into the run's own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _dtype(precision: str, device: str) -> Any:
    import torch

    if precision == "auto":
        precision = "bfloat16" if device == "cuda" or (device == "cpu" and _cpu_computes_bfloat16()) else "float32"
    return getattr(torch, precision)


def _cpu_computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Only Linux says so without torch; elsewhere float32 is right, if slower."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return bool(re.search(r"\b(?:amx_bf16|avx512_bf16)\b", flags))
