"""A Llama-style model with random weights and a tokenizer of its own, made on the spot: no hub, no download."""

from pathlib import Path

from chat_tokenizers import CHATML as CHAT
from chat_tokenizers import make_tokenizer

__all__ = ["CHAT", "make_tiny_model"]


def make_tiny_model(folder: Path, *, template: str | None = None, context: int = 512) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(template)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
