"""A sentence-transformers model with random weights, made on the spot: no hub, no download."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import BertConfig

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_tiny_embedder(folder: Path, *, seed: int = 1) -> Path:
    """BERT of 16 numbers with mean pooling; another `seed` is the same model, trained to other weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
    from transformers import BertModel

    plain = folder.with_name(f"{folder.name}-plain")
    torch.manual_seed(seed)
    BertModel(write_tiny_bert(plain)).save_pretrained(plain)
    modules: list[torch.nn.Module] = [Transformer(str(plain), max_seq_length=32), Pooling(16), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def write_tiny_bert(folder: Path) -> "BertConfig":
    """Its tokenizer, of single letters, lies in `folder`; gives its config."""
    from transformers import BertConfig, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return BertConfig(
        vocab_size=57,
        max_position_embeddings=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
