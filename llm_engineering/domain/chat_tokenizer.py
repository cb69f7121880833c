"""What `domain/chat.py` uses of a transformers tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class AddedToken(Protocol):
    @property
    def special(self) -> bool: ...


class ChatTokenizer(Protocol):
    """Text to tokens and back, and a template for conversations."""

    @property
    def chat_template(self) -> object:
        """A Jinja template, several by name, or None for a tokenizer that was made without chat."""

    @property
    def eos_token(self) -> str | None: ...

    @property
    def all_special_tokens(self) -> Sequence[str]: ...

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, Sequence[int]]:
        """The token ids as `input_ids`."""
        ...

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        tokenize: bool = ...,
        add_generation_prompt: bool = ...,
        return_dict: bool = ...,
        return_assistant_tokens_mask: bool = ...,
    ) -> object:
        """The text; with `tokenize` and `return_assistant_tokens_mask` a mapping that holds `assistant_masks`."""

    def decode(self, token_ids: list[int]) -> str | list[str]: ...
