"""How questions are answered. Every default of the inference room is written here, once. configs/ask.yaml"""

from typing import Annotated, Literal

from pydantic import Field

from llm_engineering.domain.noun import Noun


class UnderstandConfig(Noun):
    """`filters`: recognise author, kind, source and dates in the question. The rest needs a generative model."""

    filters: bool = True
    rewrite: bool = True  # make a follow-up question stand alone
    expansions: Annotated[int, Field(ge=0, le=8)] = 0  # other wordings, searched beside the question
    subquestions: Annotated[int, Field(ge=0, le=8)] = 0
    hyde: bool = False  # search with a made-up answer too (Gao et al. 2022)
    max_question: Annotated[int, Field(ge=1)] = 8_000  # characters; a longer question is refused
    seconds: Annotated[float, Field(gt=0)] = 15.0  # for the language model; then the rules alone decide


class RetrievalConfig(Noun):
    """Chosen by `poe eval-retrieval`, never by taste: docs/evaluate-retrieval.md holds the table."""

    dense: bool = True
    bm25: bool = True
    dense_weight: Annotated[float, Field(ge=0)] = 1.0
    bm25_weight: Annotated[float, Field(ge=0)] = 0.7
    fusion: Literal["scores", "rrf"] = "scores"  # of the two scores scaled to at most 1 each, or of the two ranks
    candidates: Annotated[int, Field(ge=1, le=1000)] = 30  # from the engine, of each kind; 20 and 100 rank no better
    rerank: Literal["none", "maxsim", "cross-encoder"] = "none"
    rerank_top: Annotated[int, Field(ge=1, le=200)] = 20
    cross_encoder: str = ""  # a sentence-transformers id or folder
    collapse_above: Annotated[float, Field(gt=0, le=1)] = 0.9  # share of common words; nearer ones are one passage
    mmr: Annotated[float, Field(ge=0, le=1)] = 0.0  # 0: pure relevance; up: more diverse (Carbonell & Goldstein 1998)
    passages: Annotated[int, Field(ge=1, le=50)] = 6
    token_budget: Annotated[int, Field(ge=64)] = 2000  # of all passages shown to the model
    # Cosine of the nearest passage; below, nothing was found, unless a passage holds every word. `poe bench quality`
    # measures it: with all-MiniLM-L6-v2 0.30 turns away 0.7 % of what has an answer and 89 % of what has none.
    min_relevance: Annotated[float, Field(ge=-1, le=1)] = 0.30


class AnswerConfig(Noun):
    max_tokens: Annotated[int, Field(ge=1)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    history_tokens: Annotated[int, Field(ge=0)] = 1000  # of the turns before; the oldest are left out first
    history_characters: Annotated[int, Field(ge=0)] = 8_000  # of them that are looked at, for that and for the search


class AskConfig(Noun):
    """configs/ask.yaml"""

    understand: UnderstandConfig = UnderstandConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    answer: AnswerConfig = AnswerConfig()
