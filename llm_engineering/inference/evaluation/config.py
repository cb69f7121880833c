"""How retrieval is evaluated. configs/evaluate_retrieval.yaml"""

from typing import Annotated

from pydantic import Field

from llm_engineering.domain.noun import Noun
from llm_engineering.inference.config import RetrievalConfig


class RetrievalEvaluationConfig(Noun):
    """`retrieval` is the setting that questions are answered with; the others are tried beside it."""

    retrieval: RetrievalConfig = RetrievalConfig()
    chunks: Annotated[int, Field(ge=1, le=100_000)] = 3000  # searched at most; whole documents, chosen by the seed
    queries: Annotated[int, Field(ge=3, le=10_000)] = 450  # at most, a third each: titles, headings, sentences
    generated: Annotated[int, Field(ge=0, le=1000)] = 0  # questions by the language model, when one is configured
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5  # of the words of a sentence
    resamples: Annotated[int, Field(ge=100)] = 2000  # of the documents, for the intervals
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.02  # MRR@10 may fall by this much below the accepted run
    seed: int = 7
