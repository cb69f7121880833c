"""Questions about single passages, written by a language model, when one is configured."""

from collections.abc import Iterator, Sequence

from llm_engineering.domain.answers import Message, Role, Usage
from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ports import LanguageModel
from llm_engineering.domain.prompts import Prompt
from llm_engineering.inference.evaluation.golden import GoldenQuery, half_of

INSTRUCTION = (
    "Write one question that a reader could ask and that the passage below answers. Do not quote the passage, do not "
    "mention it. Reply with the question alone, on one line."
)
MAX_CHARACTERS = 300  # characters of a question
MAX_TOKENS = 60


def generate_questions(
    chunks: Sequence[Chunk], *, model: LanguageModel, count: int, seed: int
) -> Iterator[GoldenQuery]:
    """One question for each of `count` passages, drawn by the seed; what is no question is left out.

    Raises ModelUnavailable."""
    drawn = sorted(chunks, key=lambda chunk: content_hash(str(seed), chunk.id))[:count]
    for chunk in drawn:
        if (text := _question(chunk, model)) is not None:
            yield GoldenQuery(
                text=text,
                way="question",
                document_id=chunk.document_id,
                author_id=chunk.author_id,
                kind=chunk.kind,
                half=half_of(chunk.document_id, seed),
                relevant=(chunk.id,),
            )


def _question(chunk: Chunk, model: LanguageModel) -> str | None:
    messages = (Message(role=Role.SYSTEM, content=INSTRUCTION), Message(role=Role.USER, content=chunk.text))
    pieces = model.stream(Prompt(question=INSTRUCTION, messages=messages), max_tokens=MAX_TOKENS)
    lines = "".join(piece for piece in pieces if not isinstance(piece, Usage)).strip().splitlines()
    text = " ".join(lines[0].split()).strip("\"' ") if lines else ""
    return text if text.endswith("?") and len(text) <= MAX_CHARACTERS else None
