"""What an answer looks like to a client, and what a client may ask: the platform's own routes."""

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from llm_engineering.domain.answers import Answer, Citation, Message, ParsedQuestion, Passage, Question, Role, Usage
from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.serving.api.errors import ApiError

EXAMPLE = "Why does a longer context window not replace retrieval?"


class StrictRequest(BaseModel):
    """A typo in a filter would silently widen the search, so a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Filters(StrictRequest):
    """Every given filter must hold; a list means any of. They are never widened."""

    author: list[str] = Field(default=[], max_length=50, description="Names, however they are spelt.")
    author_id: list[str] = Field(default=[], max_length=50)
    kind: list[Kind] = Field(default=[], max_length=50)
    source: list[str] = Field(default=[], max_length=50, examples=[["web_article"]])
    document_id: list[str] = Field(default=[], max_length=50)
    published_from: AwareDatetime | None = Field(default=None, description="Inclusive.")
    published_to: AwareDatetime | None = Field(default=None, description="Exclusive.")

    def where(self) -> Where | None:
        authors = (*(Author(name=name).id for name in self.author if name.strip()), *self.author_id)
        where = Where(
            author_id=authors or None,
            kind=tuple(self.kind) or None,
            source=tuple(self.source) or None,
            document_id=tuple(self.document_id) or None,
            published_from=self.published_from,
            published_to=self.published_to,
        )
        return where if where != Where() else None


class SearchRequest(StrictRequest):
    question: str = Field(min_length=1, examples=[EXAMPLE])
    k: int | None = Field(default=None, ge=1, le=50, description="How many passages; as configured when absent.")
    where: Filters = Filters()

    def as_question(self) -> Question:
        return Question(text=self.question, where=self.where.where(), limit=self.k)


class Turn(StrictRequest):
    role: Literal["user", "assistant"]
    content: str


class RagRequest(SearchRequest):
    history: list[Turn] = Field(default=[], max_length=200, description="The turns before, oldest first.")
    stream: bool = Field(default=False, description="Server-sent events: understood, sources, delta…, answer or error.")
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)

    def as_question(self) -> Question:
        history = tuple(Message(role=Role(turn.role), content=turn.content) for turn in self.history)
        return Question(text=self.question, history=history, where=self.where.where(), limit=self.k)


class FeedbackRequest(StrictRequest):
    trace_id: str = Field(min_length=1, max_length=100, description="Of the answer this is about.")
    thumbs_up: bool
    comment: str = Field(default="", max_length=10_000)
    question: str = Field(default="", max_length=100_000)
    answer: str = Field(default="", max_length=100_000)


# --- answers: the models document them, the functions write them ----------------------------------------------


class Source(BaseModel):
    number: int = Field(description="As cited in the text, from 1.")
    title: str
    url: str
    author: str
    kind: str
    source: str
    published_at: datetime | None
    headings: list[str]
    score: float = Field(description="Ranks the sources of one answer; means nothing beyond it.")
    text: str = Field(description="What the model read.")
    passage: str = Field(description="The part of it that was found.")
    document_id: str


class CitationOut(BaseModel):
    source: int
    quote: str
    start: int = Field(description="Of the quote in the source's text.")
    end: int


class ParsedQuestionOut(BaseModel):
    queries: list[str]
    filters: dict[str, Any]
    by: str
    notes: list[str]


class SearchAnswer(BaseModel):
    understood: ParsedQuestionOut
    sources: list[Source]


class AnswerDetails(BaseModel):
    """What an answer rests on."""

    answered: bool = Field(description="False: nothing relevant was found, and the text says so.")
    trace_id: str
    sources: list[Source]
    citations: list[CitationOut]
    removed_citations: int = Field(description="The model cited what is not there; it was taken out.")
    suspicious_sources: list[int] = Field(description="Hold text that looks like instructions; it was neutralised.")
    understood: ParsedQuestionOut
    model: str


class UsageOut(Usage):
    """Every field of Usage, so that one that is added there is shown here."""

    total_tokens: int


class RagAnswer(AnswerDetails):
    answer: str
    usage: UsageOut


class Stored(BaseModel):
    stored: Literal[True] = True


class ComponentOut(BaseModel):
    name: str
    ready: bool
    reason: str


class IndexOut(BaseModel):
    version: str
    embedder: str
    chunks: int


class ReadyOut(BaseModel):
    ready: bool
    pieces: list[ComponentOut]
    index: IndexOut | None


class HealthOut(BaseModel):
    status: Literal["alive"] = "alive"


def source_out(passage: Passage) -> dict[str, Any]:
    chunk = passage.chunk
    return {
        "number": passage.number,
        "title": chunk.title,
        "url": chunk.url,
        "author": chunk.author_name,
        "kind": str(chunk.kind),
        "source": chunk.source,
        "published_at": chunk.published_at.isoformat() if chunk.published_at else None,
        "headings": list(chunk.headings),
        "score": passage.score,
        "text": passage.text,
        "passage": chunk.text,
        "document_id": chunk.document_id,
    }


def citation_out(citation: Citation) -> dict[str, Any]:
    return {"source": citation.passage, "quote": citation.quote, "start": citation.start, "end": citation.end}


def parsed_question_out(parsed: ParsedQuestion) -> dict[str, Any]:
    filters = parsed.where.model_dump(mode="json", exclude_none=True) if parsed.where else {}
    return {"queries": list(parsed.queries), "filters": filters, "by": parsed.by, "notes": list(parsed.notes)}


def usage_out(usage: Usage) -> dict[str, Any]:
    return {**usage.model_dump(), "total_tokens": usage.prompt_tokens + usage.completion_tokens}


def answer_details(answer: Answer) -> dict[str, Any]:
    return {
        "answered": answer.answered,
        "trace_id": answer.trace_id,
        "sources": [source_out(one) for one in answer.passages],
        "citations": [citation_out(one) for one in answer.citations],
        "removed_citations": answer.removed_citations,
        "suspicious_sources": list(answer.suspicious_passages),
        "understood": parsed_question_out(answer.understood),
        "model": answer.model,
    }


def rag_answer_out(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, **answer_details(answer), "usage": usage_out(answer.usage)}


def check_context(question: Question, *, characters: int) -> int:
    """How long question and history are together. Raises ApiError (400) when it is more."""
    length = len(question.text) + sum(len(turn.content) for turn in question.history)
    if length > characters:
        raise ApiError(
            400,
            f"question and history have {length} characters together, and {characters} are taken: shorten them",
            code="context_length_exceeded",
        )
    return length
