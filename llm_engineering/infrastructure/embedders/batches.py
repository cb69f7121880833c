"""Running an encoder over texts in batches that hold next to no padding, whole or without its upper layers."""

from collections.abc import Callable, Iterator
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

Features = dict[str, Any]  # sentence-transformers' own: tensors, and whatever else its modules hand on
Forward = Callable[[Features], Features]


class Batch(NamedTuple):
    output: Features
    texts: list[int]  # which ones it holds
    lengths: list[int]  # tokens of each


def batches(
    texts: list[str], *, model: "SentenceTransformer", tokenizer: "Tokenizer", size: int, forward: Forward
) -> Iterator[Batch]:
    """What `forward` makes of `texts`, `size` at a time, longest first.

    The model's own `encode` sorts by characters; sorted by tokens there is next to no padding (0.3 % of the tokens
    instead of 23 %, on real articles in batches of 8).
    """
    import torch

    encodings = tokenizer.encode_batch_fast(texts)
    order = sorted(range(len(texts)), key=lambda i: -len(encodings[i]))
    for at in range(0, len(order), size):
        batch = order[at : at + size]
        lengths = [len(encodings[i]) for i in batch]
        ids = torch.full((len(batch), lengths[0]), model.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, (i, length) in enumerate(zip(batch, lengths, strict=True)):
            ids[row, :length], mask[row, :length] = torch.tensor(encodings[i].ids), 1
        features = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        with torch.inference_mode():
            output = forward(features)
        yield Batch(output, batch, lengths)


def lower_half(model: "SentenceTransformer") -> Forward:
    """The model without its upper layers, whose other weights it shares; the whole of it where it is built in
    another way than BERT."""
    whole = getattr(model[0], "auto_model", None)
    encoder = getattr(whole, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if layers is None or not hasattr(whole, "pooler"):
        return model.forward
    half = _with_parts(whole, encoder=_with_parts(encoder, layer=layers[: (len(layers) + 1) // 2]), pooler=None)
    return lambda features: {"token_embeddings": half(**features).last_hidden_state}


def _with_parts(module: Any, **parts: Any) -> Any:
    """A copy of a torch module with other parts in it; the rest is shared."""
    changed = copy(module)
    changed._modules = {**module._modules, **parts}
    return changed
