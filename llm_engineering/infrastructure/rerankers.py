"""How well each passage answers the question: late interaction, or a cross-encoder."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, TypeGuard

from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.ports import Embedder, TokenEmbedder
from llm_engineering.infrastructure.model_files import local_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

REMEMBERED = 256  # passages; of 256 tokens and 384 numbers each they take 50 MB


class MaxSimReranker:
    """Late interaction with the embedder's own token vectors: no second model.

    For every token of the question the most alike token of the passage, on average (the MaxSim of ColBERT, Khattab &
    Zaharia, SIGIR 2020). The token vectors of the passages read last are remembered. Raises ConfigError when the
    embedder has no token vectors.
    """

    name = "maxsim"

    def __init__(self, embedder: Embedder, *, remember: int = REMEMBERED) -> None:
        if not _embeds_tokens(embedder):
            raise ConfigError("this embedder gives no vectors of single tokens; set retrieval.rerank to none")
        self._embedder, self._remember = embedder, remember
        self._known: OrderedDict[str, NDArray[np.float16]] = OrderedDict()
        self._lock = Lock()

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """From -1 to 1; 0 where there is no token to compare."""
        if not texts:
            return []
        query, passages = self._tokens(question, texts)
        return [_max_similarity(query, passage) for passage in passages]

    def _tokens(self, question: str, texts: Sequence[str]) -> "tuple[NDArray[np.float32], list[NDArray[np.float32]]]":
        """Of the question and of each text; what is not remembered is embedded in one call."""
        import numpy as np

        with self._lock:
            known = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        query, *rows = self._embedder.embed_tokens([question, *new])
        fresh = {text: np.asarray(row, np.float16) for text, row in zip(new, rows, strict=True)}
        with self._lock:
            for text in dict.fromkeys(texts):
                self._known[text] = fresh[text] if text in fresh else known[text]
                self._known.move_to_end(text)
            while len(self._known) > self._remember:
                self._known.popitem(last=False)
        every = known | fresh
        return query, [every[text].astype(np.float32) for text in texts]


def _embeds_tokens(embedder: Embedder) -> TypeGuard[TokenEmbedder]:
    return hasattr(embedder, "embed_tokens")


def _max_similarity(query: "NDArray[np.float32]", passage: "NDArray[np.float32]") -> float:
    if not len(query) or not len(passage):
        return 0.0
    return float((query @ passage.T).max(axis=1).mean())


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder by its hub id or folder; it reads question and passage together.

    Nothing is loaded until the first question. Raises ConfigError when the model cannot be had.
    """

    def __init__(self, model_id: str) -> None:
        if not model_id.strip():
            raise ConfigError(
                "retrieval.rerank is cross-encoder, but retrieval.cross_encoder is empty: "
                "give a sentence-transformers id or a folder, or set rerank to maxsim"
            )
        self.model_id = model_id.strip()
        self.name = f"cross-encoder {self.model_id}"
        self._lock = Lock()

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        with self._lock:  # also around the loading, which two first questions would do twice
            pairs = [(question, text) for text in texts]
            return [float(score) for score in self._model.predict(pairs, batch_size=16, show_progress_bar=False)]

    @cached_property
    def _model(self) -> "CrossEncoder":
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise ConfigError(
                f"retrieval.cross_encoder needs the ml group ({error}): make setup, or poetry install --with ml"
            ) from error
        folder = local_folder(self.model_id)
        if folder is None and self.model_id.startswith(("/", ".", "~")):
            raise self._unusable("there is no such folder")
        try:
            model = CrossEncoder(str(folder or self.model_id))
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise self._unusable(str(error).strip().partition("\n")[0]) from error
        if model.num_labels != 1:
            raise self._unusable(f"it gives {model.num_labels} scores for a pair, where one is needed")
        return model

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"retrieval.cross_encoder={self.model_id} cannot be loaded: {why}. Check the id or the folder, be online "
            "for the first use, or set retrieval.rerank to maxsim, which needs no second model"
        )
