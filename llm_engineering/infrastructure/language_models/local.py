"""A transformers model in this process: a folder (an export, a registry's version) or a hub id."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from llm_engineering.domain.answers import Message, Role, Usage
from llm_engineering.domain.errors import ConfigError, ModelUnavailable
from llm_engineering.domain.prompts import Prompt, answer_prompt

if TYPE_CHECKING:
    import torch

POLL = 0.05  # seconds between two looks at `stop` while another answer is being written
NO_LIMIT = 1_000_000  # tokens; transformers writes "no limit" as 1e30
FALLBACK_CONTEXT = 2048  # tokens, for a model that does not say
SAFELY = {"trust_remote_code": False}  # else transformers asks on the terminal whether to run a model's own code

_PLAIN_ROLES = {Role.SYSTEM: "", Role.USER: "User: ", Role.ASSISTANT: "Assistant: "}


class TransformersModel:
    """Loaded when first asked. It is spoken to in the chat template it was trained with (plain turns if it has none),
    writes one answer at a time, and gets no more than fits its context: first old turns go, then the last passages.

    bfloat16 on a GPU, and on a CPU whose memory would not hold float32. Raises ConfigError when there is no such model
    or a package is missing, ModelUnavailable when it cannot be loaded or fails while writing.
    """

    generative = True

    def __init__(self, name: str) -> None:
        if not name.strip():
            raise ConfigError("TWIN_LANGUAGE_MODEL=transformers: needs a folder or a hub id after the colon")
        self._id = name.strip()
        self.name = Path(self._id).name if self._is_path else self._id
        self._writing, self._loading = Lock(), Lock()

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        """Token counts are the model's own."""
        model, tokenizer = self._loaded()
        with self._turn(stop) as mine:
            if not mine:
                return
            room = max(1, min(max_tokens, self._context // 2))
            ids = self._fitting(prompt, self._context - room)
            writing = None
            try:
                writing = _Writing(model, tokenizer, ids, max_tokens=room, temperature=temperature, stop=stop)
                yield from writing.pieces()
            except (RuntimeError, ValueError, IndexError) as error:  # torch: out of memory, a broken model
                raise ModelUnavailable(f"{self.name} failed while writing: {_first_line(error)}") from error
            finally:
                if writing:
                    writing.end()
            if not stop():
                yield Usage(prompt_tokens=len(ids), completion_tokens=writing.written)

    def check(self) -> str:
        """Reads the configuration and the tokenizer; the weights stay where they are."""
        place = self._place
        try:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(place, **SAFELY)
        except Exception as error:
            raise self._unusable(error) from error
        template = "its own chat template" if self._tokenizer.chat_template else "plain turns (it has no chat template)"
        return f"transformers: {self._id}, a {config.model_type} model, {template}"

    # --- the prompt -----------------------------------------------------------------------------------------

    def _fitting(self, prompt: Prompt, limit: int) -> list[int]:
        """Token ids of the prompt, at most `limit`: history goes first, then passages, then the middle of the text."""
        system, *history, last = prompt.messages if len(prompt.messages) > 1 else (None, *prompt.messages)
        passages = list(prompt.passages)
        while True:
            turns = [one for one in (system, *history, last) if one is not None]
            ids = self._ids(turns)
            if len(ids) <= limit:
                return ids
            if history:
                history.pop(0)
            elif len(passages) > 1:
                passages.pop()
                system, last = answer_prompt(prompt.question, passages).messages
            else:
                return ids[: limit // 4] + ids[len(ids) - (limit - limit // 4) :]

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        safe = [one.model_copy(update={"content": self._without_tokens(one.content)}) for one in messages]
        if not self._tokenizer.chat_template:
            return self._tokenizer(_plain(safe))["input_ids"]
        try:
            text = self._rendered(safe)
        except Exception as error:  # a template may raise anything: many refuse a system role or two turns in a row
            try:
                text = self._rendered(_merged(safe))
            except Exception:
                raise ModelUnavailable(
                    f"{self.name}: its chat template cannot be used ({_first_line(error)})", retry=False
                ) from error
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _rendered(self, messages: Sequence[Message]) -> str:
        turns = [{"role": str(one.role), "content": one.content} for one in messages]
        return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def _without_tokens(self, text: str) -> str:
        """No text of a message becomes one of the tokenizer's own control tokens: a space goes into it."""
        for token in self._control_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @cached_property
    def _control_tokens(self) -> list[str]:
        added = {str(one) for one in self._tokenizer.added_tokens_decoder.values() if one.special}
        return sorted((one for one in added | set(self._tokenizer.all_special_tokens) if len(one) > 1), key=len)[::-1]

    # --- the model ------------------------------------------------------------------------------------------

    def _loaded(self) -> tuple[Any, Any]:
        with self._loading:
            return self._model, self._tokenizer

    @cached_property
    def _model(self) -> Any:
        place = self._place
        try:
            import torch
            from transformers import AutoModelForCausalLM

            device = "cuda" if torch.cuda.is_available() else "cpu"
            model = AutoModelForCausalLM.from_pretrained(place, dtype=_dtype(device, self._folder), **SAFELY)
            return model.to(device).eval()
        except Exception as error:
            raise self._unusable(error) from error

    @cached_property
    def _tokenizer(self) -> Any:
        place = self._place
        try:
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(place, **SAFELY)
        except Exception as error:
            raise self._unusable(error) from error

    @cached_property
    def _context(self) -> int:
        """Tokens of prompt and answer together."""
        said = (getattr(self._model.config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        limits = [int(one) for one in said if one and one < NO_LIMIT]
        return min(limits) if limits else FALLBACK_CONTEXT

    @contextmanager
    def _turn(self, stop: Callable[[], bool]) -> Iterator[bool]:
        """One answer at a time; False when `stop` came first."""
        mine = False
        while not mine and not stop():
            mine = self._writing.acquire(timeout=POLL)
        try:
            yield mine
        finally:
            if mine:
                self._writing.release()

    @property
    def _is_path(self) -> bool:
        return self._id.startswith(("/", "./", "../", "~")) or Path(self._id).is_dir()

    @property
    def _folder(self) -> Path | None:
        return Path(self._id).expanduser() if self._is_path else None

    @property
    def _place(self) -> str:
        files = ("config.json", "adapter_config.json")
        if self._folder and not any((self._folder / file).is_file() for file in files):
            raise ConfigError(
                f"TWIN_LANGUAGE_MODEL=transformers:{self._id}: no model is there (config.json is missing)"
            )
        return str(self._folder or self._id)

    def _unusable(self, error: Exception) -> ConfigError | ModelUnavailable:
        """transformers, safetensors, tokenizers and the hub raise what they like over files that are no model."""
        if isinstance(error, ImportError):
            return ConfigError(
                f"TWIN_LANGUAGE_MODEL=transformers:{self._id} needs the ml group ({error}): poetry install --with ml, "
                "or set TWIN_LANGUAGE_MODEL=extractive"
            )
        offline = " HF_HUB_OFFLINE is set, so nothing is downloaded." if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        return ModelUnavailable(
            f"TWIN_LANGUAGE_MODEL=transformers:{self._id} cannot be loaded: {_first_line(error)}.{offline} Check the "
            "folder or the id, or set TWIN_LANGUAGE_MODEL=extractive",
            retry=False,
        )


class _Writing:
    """One answer being written, in a thread of its own."""

    def __init__(self, model, tokenizer, ids: list[int], *, max_tokens: int, temperature: float, stop) -> None:
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        self.written = 0
        self._left, self._stop, self._prompt = Event(), stop, len(ids)
        self._trouble: BaseException | None = None
        self._streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        asked = torch.tensor([ids], device=model.device)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        options = {
            "input_ids": asked,
            "attention_mask": torch.ones_like(asked),
            "max_new_tokens": max_tokens,
            "streamer": self._streamer,
            "stopping_criteria": StoppingCriteriaList([self._enough]),
            "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **sampling,
        }
        self._thread = Thread(target=self._write, args=(model, options), name="transformers-generate", daemon=True)
        self._thread.start()

    def pieces(self) -> Iterator[str]:
        for piece in self._streamer:
            if piece:
                yield piece
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble

    def end(self) -> None:
        """Stops after the token being computed."""
        self._left.set()
        self._thread.join()

    def _write(self, model: Any, options: dict[str, Any]) -> None:
        import torch

        try:
            with torch.inference_mode():
                model.generate(**options)
        except Exception as error:  # raised again where the pieces are read
            self._trouble = error
        finally:
            self._streamer.on_finalized_text("", stream_end=True)  # its own end() may fail as generate() did

    def _enough(self, ids: "torch.Tensor", scores: Any, **more: Any) -> "torch.Tensor":
        """Asked after every token."""
        import torch

        self.written = ids.shape[1] - self._prompt
        over = self._left.is_set() or self._stop()
        return torch.full((ids.shape[0],), over, device=ids.device, dtype=torch.bool)


def _plain(messages: Sequence[Message]) -> str:
    """For a model that was never taught to chat."""
    turns = [f"{_PLAIN_ROLES[one.role]}{one.content}" for one in messages]
    return "\n\n".join((*turns, "Assistant:"))


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The same talk for a strict template: no system role, and the roles take turns, beginning with the user."""
    merged: list[Message] = []
    for one in messages:
        role = Role.ASSISTANT if one.role is Role.ASSISTANT and merged else Role.USER
        if merged and merged[-1].role is role:
            one = one.model_copy(update={"content": f"{merged.pop().content}\n\n{one.content}"})
        merged.append(one.model_copy(update={"role": role}))
    return merged


def _dtype(device: str, folder: Path | None) -> Any:
    import torch

    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder else 0
    return torch.bfloat16 if 2 * stored > _free_memory() else torch.float32


def _free_memory() -> float:
    """Bytes; without limit where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300].rstrip(".")
