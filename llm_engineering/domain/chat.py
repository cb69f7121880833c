"""How a conversation becomes a model's text and tokens, by its tokenizer's own chat template: one rendering for both
sides. Serving writes up to where the answer begins; training goes on from there, and its loss counts only the tokens
that the assistant writes.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.answers import Message, Role
from llm_engineering.domain.chat_tokenizer import ChatTokenizer
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.prompts import Prompt, answer_prompt
from llm_engineering.domain.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_ROLES = {Role.SYSTEM: "", Role.USER: "User: ", Role.ASSISTANT: "Assistant: "}
_GENERATION_TAG = re.compile(r"{%-?\s*generation\s*-?%}")


class ChatFormatError(LLMTwinError):
    """The chat template cannot write this conversation, or not so that training sees what serving will: why."""


class TrainingSample(NamedTuple):
    """A conversation as a model is trained on it. `mask` has a number for each of `ids`: 1 where the assistant writes
    the token, its end-of-turn token included, and 0 where it is only read."""

    text: str  # without the dropped turns, but with what was cut
    ids: list[int]
    mask: list[int]
    dropped_turns: int = 0  # the oldest, so that the rest fits
    cut_tokens: int = 0  # at the end, since even the last exchange is too long; the end-of-turn token is among them

    @property
    def trained(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.mask)


class ChatFormat:
    """One tokenizer's way to write conversations.

    No content becomes a control token. A template that refuses a system role, or two turns of one role in a row, gets
    the same words merged; without a template the turns are plain ("User: ..."), and answers end with the tokenizer's
    end-of-text token. White space around a content is left out, as most templates do, so that the first token of an
    answer is the one that the model will write. Raises ChatFormatError for a template that cannot be used at all.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    # --- serving ---

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the next answer begins."""
        return self._render(messages, generation_prompt=True)[0]

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of `prompt_text`, which begins with a BOS token exactly where the model was taught one."""
        return self._tokens(self.prompt_text(messages))

    def fit(self, prompt: Prompt, limit: int) -> list[int]:
        """At most `limit` token ids: the oldest exchanges go first, then the last passages, then the middle."""
        messages, passages = prompt.messages, list(prompt.passages)
        while len(ids := self.prompt_tokens(messages)) > limit:
            if shorter := _without_oldest_exchange(messages):
                messages = shorter
            elif len(passages) > 1:
                passages.pop()
                messages = answer_prompt(prompt.question, passages).messages
            else:
                return ids[: limit // 4] + ids[len(ids) - (limit - limit // 4) :]
        return ids

    # --- training ---

    def training_text(self, messages: Sequence[Message]) -> str:
        """The conversation with all its answers; `prompt_text` of the messages before each answer is a prefix of it."""
        return self._render(messages, generation_prompt=False)[0]

    def training_sample(self, messages: Sequence[Message], *, limit: int | None = None) -> TrainingSample:
        """At most `limit` tokens: the oldest exchanges go first, then the end of the last answer.

        Every answer is trained, or, in a template with generation tags, what stands in them. Raises ChatFormatError
        also when an answer is empty or the first message, when the prompt that serving would send is not the beginning
        of the training text, and when no token ends an answer: such a model would never stop.
        """
        kept = messages
        sample = self._sample(kept)
        while limit is not None and len(sample.ids) > limit and (shorter := _without_oldest_exchange(kept)):
            kept = shorter
            sample = self._sample(kept)
        cut = max(0, len(sample.ids) - limit) if limit is not None else 0
        end = len(sample.ids) - cut
        return TrainingSample(sample.text, sample.ids[:end], sample.mask[:end], len(messages) - len(kept), cut)

    def _sample(self, messages: Sequence[Message]) -> TrainingSample:
        text, turns = self._render(messages, generation_prompt=False)
        ids = self._tokens(text)
        tagged = self._tagged(turns, ids)
        mask = [0] * len(ids)
        for at, message in enumerate(messages):
            if message.role is Role.ASSISTANT:
                start, end = self._answer_span(messages[: at + 1], text, ids)
                mask[start:end] = tagged[start:end]
                mask[end - 1] = max(tagged[start:end])  # many templates close the tag before the end-of-turn token
        return TrainingSample(text, ids, mask)

    def _answer_span(self, messages: Sequence[Message], text: str, ids: list[int]) -> tuple[int, int]:
        """Where in `ids` the last of `messages` stands, from the first token that serving leaves to the model to its
        end-of-turn token (exclusive)."""
        if len(messages) == 1 or not messages[-1].content.strip():
            raise ChatFormatError("an answer is empty, or nothing stands before it")
        prompt, until = self.prompt_text(messages[:-1]), self.training_text(messages)
        prompt_ids, until_ids = self._tokens(prompt), self._tokens(until)
        start = len(prompt_ids)
        if not (text.startswith(prompt) and until.startswith(prompt)):
            raise ChatFormatError(
                f"the prompt of serving is not how the training text begins: {_difference(prompt, text)}"
            )
        if ids[:start] != prompt_ids:
            raise ChatFormatError("the tokenizer joins the end of the prompt and the beginning of the answer")
        ends = [at for at in range(start, len(until_ids)) if until_ids[at] in self._control_ids]
        if not ends:
            raise ChatFormatError("no token ends an answer, so that a model would learn never to stop")
        end = ends[0] + 1
        if ends[0] == start:
            raise ChatFormatError("the prompt of serving ends before the mark that begins an answer")
        if until_ids[:end] != ids[:end]:
            raise ChatFormatError("an answer is written otherwise when it is not the last one")
        return start, end

    def _tagged(self, turns: list[dict[str, str]], ids: list[int]) -> list[int]:
        """1 for the tokens in the template's generation tags; for all in a template without."""
        template = self._tokenizer.chat_template
        if not (isinstance(template, str) and _GENERATION_TAG.search(template)):
            return [1] * len(ids)
        encoded = self._tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(encoded["assistant_masks"]) if isinstance(encoded, Mapping) else []

    # --- text and tokens ---

    def _tokens(self, text: str) -> list[int]:
        """A template writes its own BOS token; plain text gets the one that the tokenizer adds."""
        return list(self._tokenizer(text, add_special_tokens=not self._tokenizer.chat_template)["input_ids"])

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool) -> tuple[str, list[dict[str, str]]]:
        """The text, and the turns that the template wrote."""
        safe = [one.model_copy(update={"content": self._without_control_tokens(one.content)}) for one in messages]
        if not self._tokenizer.chat_template:
            return _plain(safe, self._tokenizer.eos_token or "", generation_prompt=generation_prompt), _turns(safe)
        try:
            return self._apply(_turns(safe), generation_prompt), _turns(safe)
        except Exception as error:  # a template may raise anything: many refuse a system role or two turns in a row
            merged = _turns(_merged(safe))
            try:
                return self._apply(merged, generation_prompt), merged
            except Exception:
                raise ChatFormatError((str(error).strip() or type(error).__name__).partition("\n")[0][:300]) from error

    def _apply(self, turns: list[dict[str, str]], generation_prompt: bool) -> str:
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt))

    def _without_control_tokens(self, text: str) -> str:
        """A space goes into each, so that no text of a message becomes one of the tokenizer's own."""
        for token in self._control_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text.strip()

    @cached_property
    def _control_tokens(self) -> list[str]:
        """Longest first, since one may hold another."""
        added = {str(one) for one in self._tokenizer.added_tokens_decoder.values() if one.special}
        tokens = added | set(self._tokenizer.all_special_tokens)
        return sorted((one for one in tokens if len(one) > 1), key=len, reverse=True)

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        added = {key for key, one in self._tokenizer.added_tokens_decoder.items() if one.special}
        return frozenset(added | set(self._tokenizer.all_special_ids))


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": str(one.role), "content": one.content} for one in messages]


def _plain(messages: Sequence[Message], end_of_text: str, *, generation_prompt: bool) -> str:
    """For a model that was never taught to chat."""
    turns = [
        f"{_PLAIN_ROLES[one.role]}{one.content}{end_of_text if one.role is Role.ASSISTANT else ''}" for one in messages
    ]
    return "\n\n".join((*turns, _PLAIN_ROLES[Role.ASSISTANT].strip()) if generation_prompt else turns)


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The same talk for a strict template: no system role, and the roles take turns, beginning with the user."""
    merged: list[Message] = []
    for one in messages:
        role = Role.ASSISTANT if one.role is Role.ASSISTANT and merged else Role.USER
        if merged and merged[-1].role is role:
            one = one.model_copy(update={"content": f"{merged.pop().content}\n\n{one.content}"})
        merged.append(one.model_copy(update={"role": role}))
    return merged


def _without_oldest_exchange(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Without what was said before the second question; () when there is none. System messages stay."""
    questions = [at for at, one in enumerate(messages) if one.role is Role.USER]
    if len(questions) < 2:
        return ()
    system = [one for one in messages[: questions[1]] if one.role is Role.SYSTEM]
    return (*system, *messages[questions[1] :])


def _difference(prompt: str, text: str) -> str:
    at = next((i for i, (one, other) in enumerate(zip(prompt, text, strict=False)) if one != other), len(text))
    return f"at character {at:,} serving writes {prompt[at : at + 40]!r}, training {text[at : at + 40]!r}"


def print_sample(sample: TrainingSample, tokenizer: ChatTokenizer, *, console: "Console | None" = None) -> None:
    """Token by token, "|" between them: trained ones green, the others grey; without colour trained ones as [token].

    `console` None: the standard output."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    colour = console.color_system is not None
    tokens = []
    for token_id, trained in zip(sample.ids, sample.mask, strict=True):
        token = printable(str(tokenizer.decode([token_id]))).replace("\n", "⏎\n")
        plain = f"[{token}]" if trained and not colour else token
        tokens.append(Text(plain, style="bold green" if trained else "bright_black"))
    console.print(Text("|").join(tokens), soft_wrap=True)
    console.print(f"{sample.trained:,} of {len(sample.ids):,} tokens are trained", highlight=False)
