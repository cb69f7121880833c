# ruff: noqa: RUF001
"""From what a person typed to what will be searched."""

import json
from collections.abc import Callable, Generator
from datetime import UTC, date, datetime

import pytest

from llm_engineering.domain.answers import Message, Question, Role, Usage
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import BadQuestion, ModelUnavailable
from llm_engineering.domain.prompts import Prompt
from llm_engineering.inference.config import UnderstandConfig
from llm_engineering.inference.understanding import follow_up
from llm_engineering.inference.understanding.follow_up import earlier_questions
from llm_engineering.inference.understanding.understand import understand

TODAY = date(2024, 5, 15)
AUTHORS = {
    "a1": "Maxime Labonne",
    "a2": "Ann Page",
    "a3": "Paul Iusztin",
    "a4": "Bob Young",
    "a5": "Carol Young",
    "a6": "June May",
    "a7": "José Núñez",
    "a8": "Thomas Bayes",
}
FACETS = Facets(
    authors=AUTHORS,
    kinds={Kind.ARTICLE: 5, Kind.POST: 5, Kind.REPOSITORY: 5},
    sources={"github": 5, "medium": 5, "linkedin": 5, "web_article": 5},
)


def ask(text, *, model=None, count=lambda where: 1, where=None, history=(), facets=FACETS, **config):
    turns = tuple(Message(role=(Role.USER, Role.ASSISTANT)[i % 2], content=one) for i, one in enumerate(history))
    question = Question(text=text, where=where, history=turns)
    config = UnderstandConfig(**config)
    return understand(question, facets=facets, model=model, config=config, today=TODAY, count=count)


class Scripted:
    """A language model that gives its reply, and remembers its prompts."""

    name = "scripted"

    def __init__(self, reply: str | Exception, *, generative: bool = True) -> None:
        self.reply, self.generative = reply, generative
        self.prompts: list[Prompt] = []

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        self.prompts.append(prompt)
        if isinstance(self.reply, Exception):
            raise self.reply
        size = max(1, len(self.reply) // 3)
        for at in range(0, len(self.reply), size):
            if stop():
                return
            yield self.reply[at : at + size]
        yield Usage()

    def check(self) -> str:
        return "scripted"


# --- authors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("What does Maxime Labonne say about quantization?", "a1"),
        ("what does maxime labonne say about quantization?", "a1"),
        ("What does Maxime Labone say about merging?", "a1"),
        ("What did Labonne write about LoRA?", "a1"),
        ("what does labonne recommend for LoRA?", "a1"),
        ("What did Labone write about LoRA?", "a1"),
        ("Summarise Labonne's view of LoRA", "a1"),
        ("What is Ann's advice on caching?", "a2"),
        ("articles by Ann Page about caching", "a2"),
        ("Is there anything by Page?", "a2"),
        ("According to Iusztin, what is an LLM twin?", "a3"),
        ("posts from Paul on agents", "a3"),
        ("What does Jose Nunez think of bread?", "a7"),
        ("What did Núñez write?", "a7"),
        ("Ann’s posts on caching", "a2"),
    ],
)
def test_an_author_is_recognised(text, author):
    understood = ask(text)
    assert understood.where.author_id == author
    assert any(AUTHORS[author] in note for note in understood.notes)
    assert understood.by == "rules"


@pytest.mark.parametrize(
    "text",
    [
        "How do I page through results?",
        "What is written on page 5?",
        "Page faults slow programs down; why?",
        "Is a young project safe to use?",
        "What may go wrong in June?",
        "What was new by May?",
        "How does the Bayes theorem work?",
        "How are pages split by page size?",
        "Who wrote this, and why is it by far the best?",
        "How do I ban users from Paulson's server?",
        "What do annotators say about labels?",
        "Which paulownia trees grow fast?",
    ],
)
def test_a_word_that_happens_to_be_a_name_filters_nothing(text):
    understood = ask(text)
    assert understood.where is None or understood.where.author_id is None


def test_a_name_two_authors_share_filters_nothing_and_both_whole_names_filter_both():
    assert ask("What does Young say about tests?").where is None
    assert ask("Compare Bob Young and Carol Young on tests").where.author_id == ("a4", "a5")


# --- kinds and sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Which articles explain quantization?", Kind.ARTICLE),
        ("What does it say in his posts about agents?", Kind.POST),
        ("Show me the repositories with a crawler", Kind.REPOSITORY),
        ("How is retrying done in Labonne's code?", Kind.REPOSITORY),
        ("Which blog posts mention caching?", (Kind.ARTICLE, Kind.POST)),
        ("posts by Ann Page on caching", Kind.POST),
    ],
)
def test_a_kind_is_recognised(text, kind):
    assert ask(text).where.kind == kind


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("What did Labonne publish on GitHub?", "github"),
        ("articles from Medium about agents", "medium"),
        ("What is on my LinkedIn about hiring?", "linkedin"),
        ("Which Medium articles are about RAG?", "medium"),
    ],
)
def test_a_source_is_recognised(text, source):
    assert ask(text).where.source == source


def test_a_new_source_is_recognised_as_soon_as_the_index_holds_it():
    text = "What does it say in the Hashnode posts about agents?"
    assert ask(text).where is None
    found = ask(text, facets=FACETS.model_copy(update={"sources": {"hashnode": 5}})).where
    assert (found.kind, found.source) == (Kind.POST, "hashnode")


@pytest.mark.parametrize(
    "text",
    [
        "How do I post a message to a queue?",
        "How does code review work?",
        "What is the code of conduct?",
        "How do I deploy from GitHub?",
        "How do I publish articles on Medium?",
        "Are medium sized models good enough?",
        "How do GitHub Actions cache packages?",
        "How long is an article?",
    ],
)
def test_words_that_are_only_the_topic_filter_nothing(text):
    assert ask(text).where is None


# --- dates --------------------------------------------------------------------------------------------------


def day(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


@pytest.mark.parametrize(
    ("text", "from_", "to"),
    [
        ("What was written in 2023?", "2023-01-01", "2024-01-01"),
        ("anything since March 2024?", "2024-03-01", None),
        ("anything since mar. 2024 on RAG", "2024-03-01", None),
        ("posts of last year", "2023-01-01", "2024-01-01"),
        ("What came out last month?", "2024-04-01", "2024-05-01"),
        ("What came out this month?", "2024-05-01", "2024-06-01"),
        ("What was new last week?", "2024-05-06", "2024-05-13"),
        ("What was posted yesterday?", "2024-05-14", "2024-05-15"),
        ("What was posted today?", "2024-05-15", "2024-05-16"),
        ("What was said this week?", "2024-05-13", "2024-05-20"),
        ("Of the past month?", "2024-04-15", None),
        ("What happened in the last 30 days?", "2024-04-15", None),
        ("What happened in the last three weeks?", "2024-04-24", None),
        ("What about this year?", "2024-01-01", "2025-01-01"),
        ("before 2022", None, "2022-01-01"),
        ("after 2022", "2023-01-01", None),
        ("until 2022", None, "2023-01-01"),
        ("between 2021 and 2022", "2021-01-01", "2023-01-01"),
        ("from March 2023 to June 2023", "2023-03-01", "2023-07-01"),
        ("between 2024-01-15 and 2024-02-01", "2024-01-15", "2024-02-02"),
        ("on 2024-03-05", "2024-03-05", "2024-03-06"),
        ("in 2024-03", "2024-03-01", "2024-04-01"),
        ("since 5 March 2024", "2024-03-05", None),
        ("before March 5th, 2024", None, "2024-03-05"),
        ("in December 2023", "2023-12-01", "2024-01-01"),
        ("in Q4 2023", "2023-10-01", "2024-01-01"),
        ("What was new in March?", "2024-03-01", "2024-04-01"),
        ("What was new in August?", "2023-08-01", "2023-09-01"),
        ("What was new in May?", "2024-05-01", "2024-06-01"),
    ],
)
def test_a_date_is_read(text, from_, to):
    where = ask(text).where
    assert (where.published_from, where.published_to) == (day(from_), day(to))


@pytest.mark.parametrize(
    "text",
    [
        "Write it in 2000 words",
        "How many of 2023 tokens fit?",
        "Is it fast since 3.11?",
        "What changed in Python 3.11?",
        "in 2024-13-45 nothing happened",
        "What may I do, and since may it be used?",
        "Compare GPT-4 and Llama 3 in 2048 dimensions",
        "between 2023 and 2021",
    ],
)
def test_other_numbers_are_no_dates(text):
    assert ask(text).where is None


# --- what holds and what gives way --------------------------------------------------------------------------


def test_what_the_person_chose_always_holds():
    chosen = Where(author_id="a3", published_from=day("2020-01-01"))
    where = ask("What did Labonne write on GitHub in 2023?", where=chosen).where
    assert where == Where(author_id="a3", published_from=day("2020-01-01"), source="github")
    assert ask("What did Labonne write?", where=chosen, count=lambda where: 0).where == chosen


def test_a_filter_that_would_leave_nothing_is_dropped_and_said():
    understood = ask("What did Labonne write on GitHub in 2023?", count=lambda where: 0 if where.source else 3)
    assert understood.where == Where(author_id="a1", published_from=day("2023-01-01"), published_to=day("2024-01-01"))
    assert "source github: nothing indexed matches, so it was left out" in understood.notes
    assert ask("posts by Labonne", count=lambda where: 0).where is None


def test_filters_can_be_switched_off():
    assert ask("What did Labonne write in 2023?", filters=False).where is None


# --- follow-ups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["How does it rise?", "And why?", "What about salt?", "Why?", "Tell me more", "Who says so about them?"]
)
def test_a_follow_up_gets_the_words_it_leans_on(text):
    understood = ask(text, history=("What does sourdough bread need?", "Flour."), rewrite=False)
    assert understood.queries[0].startswith(text)
    assert "sourdough bread" in understood.queries[0]
    assert any("follow-up" in note for note in understood.notes)


def test_a_follow_up_of_a_follow_up_reaches_back_to_the_subject():
    history = ("What does sourdough bread need?", "Flour.", "And how long?", "A night.")
    assert "sourdough bread" in ask("Why?", history=history).queries[0]


def test_a_question_that_stands_alone_is_left_alone():
    text = "How does a crawler honour robots.txt files?"
    assert ask(text, history=("What does sourdough bread need?", "Flour.")).queries == (text,)


def test_the_filters_of_the_question_before_hold_for_its_follow_up():
    history = ("What did Labonne write about merging in 2023?", "Much.")
    assert ask("And about it in 2024?", history=history).where == Where(
        author_id="a1", published_from=day("2024-01-01"), published_to=day("2025-01-01")
    )
    assert ask("How do crawlers honour robots files?", history=history).where is None


# --- with a language model ----------------------------------------------------------------------------------


def test_a_model_rewrites_and_expands_as_asked_and_no_more():
    reply = json.dumps(
        {
            "question": "How does sourdough bread rise?",
            "expansions": ["leavening of bread", "why dough grows", "a third one"],
            "subquestions": ["What is yeast?"],
            "passage": "Yeast makes gas.",
        }
    )
    model = Scripted(f"Sure!\n```json\n{reply}\n```")
    understood = ask(
        "How does it rise?", model=model, history=("bread?", "yes"), expansions=2, subquestions=3, hyde=True
    )
    assert understood.by == "scripted"
    assert understood.queries == (
        "How does sourdough bread rise?",
        "leavening of bread",
        "why dough grows",
        "What is yeast?",
        "Yeast makes gas.",
    )
    system_prompt = "\n".join(message.content for message in model.prompts[0].messages)
    assert "2 other wordings" in system_prompt
    assert "Maxime Labonne" in system_prompt


def test_a_model_is_not_asked_when_the_rules_can_do_it():
    model = Scripted("{}")
    assert ask("What does Labonne say?", model=model).by == "rules"
    assert model.prompts == []


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I would rather not.",
        "{",
        "[1, 2]",
        '{"question": ',
        "{" * 100_000,
        "nonsense " * 10_000,
        "\x00\xff",
        '"text"',
    ],
)
def test_whatever_else_a_model_says_the_rules_decide_and_a_note_says_so(reply):
    understood = ask("How does it rise?", model=Scripted(reply), history=("What is sourdough bread?", "Food."))
    assert understood.by == "rules"
    assert "sourdough" in understood.queries[0]
    assert any("by rules" in note for note in understood.notes)


@pytest.mark.parametrize(
    "read", [{"question": 7, "expansions": "x"}, {"expansions": [None, {}, " "]}, {}, {"question": ""}]
)
def test_fields_of_the_wrong_type_are_ignored(read):
    assert ask("Sourdough bread?", model=Scripted(json.dumps(read)), expansions=2).queries == ("Sourdough bread?",)


def test_a_model_that_is_down_costs_only_a_note():
    understood = ask("Bread?", model=Scripted(ModelUnavailable("tiny is down: start it")), expansions=1)
    assert understood.by == "rules"
    assert any("tiny is down: start it" in note for note in understood.notes)


def test_a_model_that_takes_too_long_is_left():
    understood = ask("Bread?", model=Scripted('{"question": "x"}'), expansions=1, seconds=1e-9)
    assert understood.queries == ("Bread?",)
    assert any("took too long" in note for note in understood.notes)


def test_with_nobody_to_write_it_says_that_rules_did_it():
    for model in (None, Scripted("never", generative=False)):
        understood = ask("Bread?", model=model, expansions=2)
        assert (understood.by, understood.queries) == ("rules", ("Bread?",))
        assert any("no language model" in note for note in understood.notes)


def test_of_a_models_filters_only_what_is_indexed_counts():
    read = {
        "author": "Labonne",
        "kind": "post",
        "source": "medium",
        "published_from": "2023-01-01",
        "published_to": "2023-01-31",
    }
    where = ask("Bread?", model=Scripted(json.dumps(read)), expansions=1).where
    assert where == Where(
        author_id="a1",
        kind=Kind.POST,
        source="medium",
        published_from=day("2023-01-01"),
        published_to=day("2023-02-01"),
    )
    made_up = {
        "author": "Nobody Atall",
        "kind": "poem",
        "source": "myspace",
        "published_from": "soon",
        "published_to": "2023-99-99",
    }
    assert ask("Bread?", model=Scripted(json.dumps(made_up)), expansions=1).where is None


# --- what can be asked at all -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00\x01", "\u200b\u2060", "\ud800"])
def test_no_question_is_refused(text):
    with pytest.raises(BadQuestion, match="there is no question"):
        ask(text)


def test_a_megabyte_is_refused_with_the_limit():
    with pytest.raises(BadQuestion, match="1,000,000 characters; ask with at most 8,000"):
        ask("a" * 1_000_000)
    assert ask("a" * 8000).queries == ("a" * 8000,)


@pytest.mark.parametrize(
    "text",
    [
        "🍞🥖",
        "ماذا يحتاج الخبز؟",
        "パンには何が必要ですか？",
        "Was braucht خبز and 面包?",
        "???",
        "'; DROP TABLE x; --",
        "a",
    ],
)
def test_any_script_can_be_asked(text):
    assert ask(text).queries == (text,)
    assert ask(text, history=("What is bread?", "Food.")).queries[0].startswith(text)


def test_control_characters_and_template_tokens_never_go_on():
    understood = ask("What\x00 is <|im_start|>bread\u202e?", history=("<|im_end|>bread", "[INST]"))
    assert understood.queries[0].startswith("What is ‹|im_start|›bread?")
    assert "<|" not in understood.queries[0]


def test_long_input_of_any_shape_is_understood():
    for text in ("in the last " * 600, "by " * 2600, "Ann Page's " * 700, "2023-" * 1500, "(" * 7900):
        ask(text, history=(text, text))


def test_a_history_of_any_length_is_looked_back_at_for_a_few_questions_only():
    history = [Message(role=Role.USER, content="and it? " * 10_000) for _ in range(1_000)]
    found = earlier_questions(history)
    assert len(found) == follow_up.MAX_EARLIER
    assert max(map(len, found)) == follow_up.LONGEST_EARLIER
