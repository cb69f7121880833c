"""The chat page at `/`: a question, the answer as it comes, its sources, and what the reader thought of it."""

from llm_engineering.serving.chat.mount import mount_chat

__all__ = ["mount_chat"]
