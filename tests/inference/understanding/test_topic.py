# ruff: noqa: RUF001
"""What is searched for: the subject of a question, not the frame around it."""

from datetime import date

import pytest

from llm_engineering.domain.answers import Message, Question, Role
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.inference.config import UnderstandConfig
from llm_engineering.inference.understanding.understand import understand

FACETS = Facets(
    authors={"a1": "Mira Halloran", "a2": "Jonas Reyes"},
    kinds={Kind.ARTICLE: 5, Kind.POST: 5, Kind.REPOSITORY: 5},
    sources={"github": 5, "medium": 5},
)


def ask(text, *, where=None, history=(), count=lambda where: 1, **config):
    turns = tuple(Message(role=(Role.USER, Role.ASSISTANT)[i % 2], content=one) for i, one in enumerate(history))
    return understand(
        Question(text=text, where=where, history=turns),
        facets=FACETS,
        model=None,
        config=UnderstandConfig(**config),
        today=date(2026, 5, 15),
        count=count,
    )


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("What did Mira write about quantisation?", "quantisation?"),
        ("what did mira halloran say about the kv cache", "kv cache"),
        ("Mira's advice on temperature", "temperature"),
        ("articles by Mira about LoRA since February 2026", "LoRA"),
        ("What was written in March 2026 about judges?", "judges?"),
        ("Is there anything by Mira on speculative decoding?", "speculative decoding?"),
        ("According to Mira, what is speculative decoding?", "what is speculative decoding?"),
        ("Why does Mira say that CPUs wait?", "Why CPUs wait?"),
        ("Does Mira think that four bits are enough?", "four bits are enough?"),
        ("How is the token rate computed in Mira's code?", "How is the token rate computed?"),
        ("Which repositories estimate tokens per second?", "estimate tokens per second?"),
        ("What is there on Medium about agents?", "agents?"),
        ("What does Mirra Haloran say about chat templates?", "chat templates?"),
        ("Compare Mira Halloran and Jonas Reyes on backups", "backups"),
        ("quantisation, by Mira Halloran", "quantisation"),
        ("Was schreibt Mira über Quantisierung?", "Quantisierung?"),
        ("Was hat Mira über LoRA geschrieben?", "LoRA?"),
        ("Que dit Mira sur la quantification ?", "quantification?"),
        ("Tell me about LoRA", "LoRA"),
        ("Can you tell me how RLHF works?", "how RLHF works?"),
        ("I would like to know whether eight-bit keys cost quality", "eight-bit keys cost quality"),
    ],
)
def test_what_became_a_filter_and_the_frame_around_it_are_not_searched_for(text, searched):
    assert ask(text).queries == (searched,)


@pytest.mark.parametrize(
    "text",
    [
        "What are the benefits of 4-bit quantization?",
        "How do I page through results?",
        "If I use LoRA, what rank?",
        "On which hardware does it run?",
        "What do annotators say about labels?",
        "LoRA",
        "Tell me more",
        "面包需要什么？",
    ],
)
def test_a_question_with_nothing_to_take_out_is_searched_for_as_it_stands(text):
    assert ask(text).queries == (text,)


def test_words_of_a_filter_that_was_left_out_are_still_searched_for():
    dropped = ask("What did Mira write about agents in 1998?", count=lambda where: 0 if where.published_from else 1)
    assert dropped.queries == ("agents in 1998?",)
    overruled = ask("What did Mira write about agents?", where=Where(author_id="a2"))
    assert overruled.queries == ("What did Mira write about agents?",)
    assert ask("What did Mira write about agents?", filters=False).queries == overruled.queries


def test_a_filter_the_person_chose_as_well_is_not_searched_for():
    assert ask("What did Mira write about agents?", where=Where(author_id="a1")).queries == ("agents?",)


def test_a_question_about_nothing_but_its_filters_is_searched_for_as_it_stands():
    assert ask("What did Mira write?").queries == ("What did Mira write?",)


def test_a_follow_up_takes_over_the_subject_and_not_the_frame():
    understood = ask("And what did she get wrong?", history=("What did Mira write about LoRA?", "Much."))
    assert understood.queries == ("And what did she get wrong? (LoRA)",)
    assert understood.where == Where(author_id="a1")
