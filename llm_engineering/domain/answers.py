"""What a person asks and what they get: every answer shows where it comes from."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from llm_engineering.domain.chunks import Chunk, Where
from llm_engineering.domain.noun import Noun


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Message(Noun):
    role: Role
    content: str


class Question(Noun):
    """`history` are the turns before, oldest first. `where` is what the person chose; it is never widened."""

    text: str
    history: tuple[Message, ...] = ()
    where: Where | None = None
    limit: int | None = Field(default=None, ge=1, le=50)  # passages; None: as configured


class ParsedQuestion(Noun):
    """What will be searched. `queries` holds the standalone question first, then its expansions."""

    queries: tuple[str, ...]
    where: Where | None = None
    by: str = "rules"  # or the language model's name
    notes: tuple[str, ...] = ()  # for the trace and the reader: what was recognised, dropped or fell back


class Passage(Noun):
    """One numbered source of an answer. `text` is what the model read (the window, cut to the budget)."""

    number: int  # from 1
    chunk: Chunk
    score: float  # of the stage that ranked it last; comparable within one answer only
    text: str


class Citation(Noun):
    """A verified one: `passage` exists, and `quote` is `text[start:end]` of that passage."""

    passage: int
    quote: str
    start: int
    end: int


class Usage(Noun):
    """Tokens as the model counted them; estimated where it did not say."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    estimated: bool = False


class Answer(Noun):
    text: str
    answered: bool  # False: nothing relevant was found, and the text says so
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    removed_citations: int = 0  # the model cited what is not there
    suspicious_passages: tuple[int, ...] = ()  # hold text that looks like instructions; it was neutralised
    model: str = ""
    usage: Usage = Usage()
    understood: ParsedQuestion
    trace_id: str = ""


class Delta(Noun):
    """A piece of an answer on its way; its citations are verified already."""

    text: str


AnswerEvent = ParsedQuestion | tuple[Passage, ...] | Delta | Answer  # on the way to an answer, in this order


class Feedback(Noun):
    """What a reader thought of an answer."""

    trace_id: str = Field(min_length=1, max_length=100)
    thumbs_up: bool
    comment: str = Field(default="", max_length=10_000)
    question: str = Field(default="", max_length=100_000)
    answer: str = Field(default="", max_length=100_000)
    at: datetime | None = None  # set when stored
