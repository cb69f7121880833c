"""Texts into vectors: any sentence-transformers model, or hashed words where no model is wanted."""

from llm_engineering.infrastructure.embedders.hashing import HashingEmbedder
from llm_engineering.infrastructure.embedders.sentence_transformer import SentenceTransformerEmbedder

__all__ = ["HashingEmbedder", "SentenceTransformerEmbedder"]
