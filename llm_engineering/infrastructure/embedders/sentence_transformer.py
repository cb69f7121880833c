"""Vectors of any sentence-transformers model."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from llm_engineering.domain.chunks import EmbeddingSpec
from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.text import storable
from llm_engineering.infrastructure.embedders.batches import Batch, Forward, batches, lower_half
from llm_engineering.infrastructure.embedders.loading import (
    PRECISIONS,
    fast_tokenizer,
    load_model,
    read_tokenizer,
    unusable,
)
from llm_engineering.infrastructure.embedders.unit_length import unit_length
from llm_engineering.infrastructure.model_files import (
    PACKAGED,
    PACKAGED_REVISION,
    VectorShape,
    cached_snapshot,
    canonical_id,
    local_folder,
    read_shape,
)
from llm_engineering.infrastructure.model_revision import model_revision

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from threadpoolctl import ThreadpoolController
    from tokenizers import Tokenizer

_SORTED_TOGETHER = 4096  # texts
_ONE_THREAD = 500  # characters, about what a question has
_COUNTED_TOGETHER = 1024  # texts per call of the tokenizer, which keeps every token of a call in memory


class SentenceTransformerEmbedder:
    """A sentence-transformers model by its hub id or folder; `all-MiniLM-L6-v2` comes with an installed package.

    Nothing is loaded until it is needed: `spec` and `count_tokens` read the model's small files (and its weights once,
    for their hash, which is remembered in `revision_cache`), only `embed` loads torch. `precision` "auto" is bfloat16
    on GPUs and on CPUs that compute in it (AMX-BF16, AVX512-BF16), where it is several times as fast with a cosine
    error below 1e-3, and float32 elsewhere. Raises ConfigError when the model cannot be had.
    """

    def __init__(self, model_id: str, precision: str = "auto", *, revision_cache: Path | None = None) -> None:
        if not model_id.strip():
            raise ConfigError("TWIN_EMBEDDER is empty: use all-MiniLM-L6-v2, a hub id, a model folder or hashing:256")
        if precision not in PRECISIONS:
            raise ConfigError(f"TWIN_EMBEDDER_PRECISION={precision}: use {', '.join(PRECISIONS)}")
        self.model_id, self.precision = canonical_id(model_id.strip()), precision
        self._revision_cache = revision_cache
        self._lock = RLock()  # two threads must not load the model at once, nor the tokenizer inside it be shared

    # --- what it is ---

    @cached_property
    def spec(self) -> EmbeddingSpec:
        shape = self._shape_in_files or self._shape_of_model()
        size, max_tokens = shape
        return EmbeddingSpec(model_id=self.model_id, revision=self._revision, size=size, max_tokens=max_tokens)

    @cached_property
    def _shape_in_files(self) -> VectorShape | None:
        return read_shape(self._folder) if self._folder else None

    def _shape_of_model(self) -> VectorShape:
        with self._lock:
            model = self._model
        size = model.get_embedding_dimension()
        limit = model.max_seq_length or model.tokenizer.model_max_length
        if not size or not limit or limit > 1_000_000:  # transformers writes "no limit" as 1e30
            raise ConfigError(f"TWIN_EMBEDDER={self.model_id}: it does not say its vector size and its token limit")
        return VectorShape(size, limit)

    @cached_property
    def _revision(self) -> str:
        if self._folder is None:
            with self._lock:
                _ = self._model  # downloads it
        return self._read_revision()

    def _read_revision(self) -> str:
        folder = self._folder or cached_snapshot(self.model_id)
        if folder is None:
            raise unusable(self.model_id, "the hub's cache does not say which revision it is")
        if self.model_id == PACKAGED and folder != Path(PACKAGED):
            return PACKAGED_REVISION
        try:
            return model_revision(folder, cache=self._revision_cache)
        except OSError as error:
            raise unusable(self.model_id, f"{error.filename} cannot be read ({error.strerror})") from error

    @cached_property
    def _folder(self) -> Path | None:
        return local_folder(self.model_id)

    # --- loading ---

    @cached_property
    def _model(self) -> "SentenceTransformer":
        expected = self._revision if self._folder else None
        model = load_model(self.model_id, self._folder, precision=self.precision)
        if expected and self._read_revision() != expected:
            raise unusable(self.model_id, "its files were changed since this run began; run again")
        return model

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        """A copy of the model's own, which neither cuts nor pads."""
        file = self._folder / "tokenizer.json" if self._folder else None
        tokenizer = read_tokenizer(self.model_id, file) if file and file.is_file() else fast_tokenizer(self._model)
        if tokenizer is None:
            raise unusable(self.model_id, "it has no fast tokenizer (tokenizer.json)")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _cutting_tokenizer(self) -> "Tokenizer | None":
        """The model's own, cutting at the limit; None for a model that does more with a text than read its tokens."""
        model = self._model
        limit, padding = model.max_seq_length, model.tokenizer.pad_token_id
        prompted = model.default_prompt_name or getattr(model[0], "do_lower_case", False)
        if self._shape_in_files is None or prompted or limit is None or padding is None:
            return None
        if tokenizer := fast_tokenizer(model):
            tokenizer.enable_truncation(limit)
            tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _special_tokens(self) -> tuple[int, int]:
        """How many the encoder puts before a text and after it."""
        mask = self._tokenizer.encode("a").special_tokens_mask
        text = [i for i, special in enumerate(mask) if not special]
        return text[0], len(mask) - 1 - text[-1]

    @property
    def _batch_size(self) -> int:
        in_bfloat16 = "bfloat16" in str(self._model.dtype)
        return 128 if self._model.device.type == "cuda" else 8 if in_bfloat16 else 32

    # --- embedding ---

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        with self._lock:
            tokenizer = self._tokenizer
        counts: list[int] = []
        for at in range(0, len(texts), _COUNTED_TOGETHER):
            batch = [storable(text) for text in texts[at : at + _COUNTED_TOGETHER]]
            counts += [len(encoding) for encoding in tokenizer.encode_batch_fast(batch)]
        return counts

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """(len(texts), spec.size), rows of unit length. Longer texts are cut at `spec.max_tokens`."""
        import numpy as np

        if not texts:
            return np.empty((0, self.spec.size), np.float32)
        encodable = [storable(text) for text in texts]
        with self._lock, self._fitting_threads(encodable):
            if self._cutting_tokenizer is None:
                rows = self._model.encode(encodable, batch_size=self._batch_size, show_progress_bar=False)
                return unit_length(np.asarray(rows, np.float32))
            spans = [encodable[at : at + _SORTED_TOGETHER] for at in range(0, len(encodable), _SORTED_TOGETHER)]
            return unit_length(np.concatenate([self._encode(span, self._cutting_tokenizer) for span in spans]))

    def _encode(self, texts: list[str], tokenizer: "Tokenizer") -> "NDArray[np.float32]":
        import numpy as np

        rows = np.empty((len(texts), self.spec.size), np.float32)
        for batch in self._batches(texts, tokenizer, self._model.forward):
            rows[batch.texts] = batch.output["sentence_embedding"].float().cpu().numpy()
        return rows

    def embed_tokens(self, texts: Sequence[str]) -> "list[NDArray[np.float32]]":
        """One (tokens, size) array per text, rows of unit length, special tokens left out. Longer texts are cut at
        `spec.max_tokens`. Raises ConfigError when the model has no vectors of single tokens.

        They come from the middle of the model where it can be halved, as those of BERTScore do (Zhang et al., ICLR
        2020): there a token says more of itself. On real articles, MaxSim over dense hits found MRR@10 0.511
        and 0.471 on two halves with 3 of 6 layers, 0.486 and 0.470 with all, in 212 ms instead of 380 for 20 passages.
        """
        if not texts:
            return []
        encodable = [storable(text) for text in texts]
        before, after = self._special_tokens
        try:
            with self._lock, self._fitting_threads(encodable):
                states = self._token_states(encodable)
        except KeyError as error:  # static embeddings, for one, are averaged at once
            raise ConfigError(
                f"TWIN_EMBEDDER={self.model_id} gives no vectors of single tokens; set retrieval.rerank to none"
            ) from error
        return [unit_length(rows[before : len(rows) - after].float().cpu().numpy()) for rows in states]

    def _token_states(self, texts: list[str]) -> "list[torch.Tensor]":
        """(tokens, size) of each text, special tokens among them."""
        if self._cutting_tokenizer is None:
            rows = self._model.encode(
                texts,
                batch_size=self._batch_size,
                output_value="token_embeddings",
                convert_to_numpy=False,
                show_progress_bar=False,
            )
            return list(rows)
        states: dict[int, torch.Tensor] = {}
        for batch in self._batches(texts, self._cutting_tokenizer, self._lower_half):
            for row, (i, length) in enumerate(zip(batch.texts, batch.lengths, strict=True)):
                states[i] = batch.output["token_embeddings"][row, :length]
        return [states[i] for i in range(len(texts))]

    @cached_property
    def _lower_half(self) -> Forward:
        return lower_half(self._model)

    def _batches(self, texts: list[str], tokenizer: "Tokenizer", forward: Forward) -> Iterator[Batch]:
        return batches(texts, model=self._model, tokenizer=tokenizer, size=self._batch_size, forward=forward)

    def _fitting_threads(self, texts: Sequence[str]) -> AbstractContextManager[object]:
        """One thread for a question: two take 3/4 of the time on a machine with nothing else to do, but wait for each
        other in busy loops, and on a busy one take ten times as long (2 cores, 8 ms against 6, and 20 against 200)."""
        if sum(map(len, texts)) > _ONE_THREAD:
            return nullcontext()
        return self._threads.limit(limits=1)

    @cached_property
    def _threads(self) -> "ThreadpoolController":
        """OpenMP's, whose number is each thread's own."""
        from threadpoolctl import ThreadpoolController

        _ = self._model  # loads the libraries that are looked for
        return ThreadpoolController().select(internal_api="openmp")
