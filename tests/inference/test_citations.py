# ruff: noqa: RUF001
"""No citation is shown that was not checked."""

import json
from random import Random

import pytest
from passages import passage

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.citation_format import RULE, VERIFIED_CITATION, cite, cited_numbers
from llm_engineering.domain.prose import sentences
from llm_engineering.inference.citations import SUPPORT, CitationChecker, check_sentence, support

BREAD = "Ovens get hot. Sourdough bread needs flour, water, salt and a night of patience. Cats sleep a lot."
ROBOTS = "A crawler should honour robots.txt and wait between two requests.\n\nServers thank it for politeness."
CODE = "Use `rows[1]` to get the second row of the table."


def numbered(*texts: str) -> list[Passage]:
    return [Passage(number=i, chunk=passage(i), score=1.0, text=text) for i, text in enumerate(texts, start=1)]


PASSAGES = numbered(BREAD, ROBOTS, CODE)


def checked(text: str, size: int = 7, passages=PASSAGES) -> tuple[str, CitationChecker]:
    """Fed in pieces of `size` characters."""
    checker = CitationChecker(passages)
    out = [s for at in range(0, len(text), size) for s in checker.feed(text[at : at + size])]
    return "".join([*out, *checker.finish()]), checker


@pytest.mark.parametrize(
    ("inside", "numbers"),
    [
        ("1", [1]),
        ("1, 2", [1, 2]),
        ("1-3", [1, 2, 3]),
        ("1–3; 5", [1, 2, 3, 5]),
        ("2,2", [2]),
        ("3-1", [3, 1]),
        ("1-900", [1, 900]),
    ],
)
def test_every_way_to_write_numbers_is_read(inside, numbers):
    assert cited_numbers(inside) == numbers


def test_the_prompt_asks_for_the_citations_that_are_read_and_shown():
    asked_for = RULE.partition(" like ")[2].partition(". ")[0]
    assert asked_for == "[1] or [2][3]"
    assert [int(number) for number in VERIFIED_CITATION.findall(asked_for)] == [1, 2, 3]
    assert check_sentence(f"Sourdough needs flour, water and salt {cite(1)}.", PASSAGES).citations[0].passage == 1


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_citation_that_holds_stays_with_the_place_it_rests_on(size):
    text, checker = checked("Sourdough needs flour, salt and patience [1].", size)
    assert text == "Sourdough needs flour, salt and patience [1]."
    [citation] = checker.citations
    assert citation.quote == "Sourdough bread needs flour, water, salt and a night of patience."
    assert BREAD[citation.start : citation.end] == citation.quote
    assert checker.removed == 0


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize(
    ("said", "shown", "removed"),
    [
        ("Bread needs flour and salt [9].", "Bread needs flour and salt.", 1),
        ("Elephants paint large murals in spring [1].", "Elephants paint large murals in spring.", 1),
        ("Sourdough needs flour, water and salt [1][2].", "Sourdough needs flour, water and salt [1].", 1),
        ("Sourdough needs flour, water and salt [1, 2].", "Sourdough needs flour, water and salt [1].", 1),
        ("Sourdough needs flour, water and salt [1-3].", "Sourdough needs flour, water and salt [1].", 2),
        (
            "Sourdough needs flour, water and salt. [1] Cats bark. [1]",
            "Sourdough needs flour, water and salt. [1] Cats bark.",
            1,
        ),
        (
            "Sourdough needs flour and salt [1], and crawlers honour robots.txt [2].",
            "Sourdough needs flour and salt [1], and crawlers honour robots.txt [2].",
            0,
        ),
        (
            "Sourdough needs flour and salt [2], and crawlers honour robots.txt [1].",
            "Sourdough needs flour and salt, and crawlers honour robots.txt.",
            2,
        ),
        ("No citation at all.", "No citation at all.", 0),
        ("[1]", "", 1),
        ("Sourdough needs flour, water and salt 【1】.", "Sourdough needs flour, water and salt [1].", 0),
    ],
)
def test_what_cannot_be_verified_is_removed_and_counted(said, shown, removed, size):
    text, checker = checked(said, size)
    assert text == shown
    assert checker.removed == removed


def test_numbers_in_code_and_links_are_no_citations():
    for text in (
        "Write `rows [1]` and `rows[9]` here.\n",
        "See [1](https://example.com) there.",
        "```python\nx = [9]\ny = [1]\n```\n",
    ):
        assert checked(text)[0] == text
        assert checked(text)[1].removed == 0


def test_a_quotation_must_stand_there_word_for_word_but_for_its_typography():
    passages = numbered('He said: "Don\'t  wait\nfor the *oven*" — and left for good.')
    share, start, end = support("“don’t wait for the oven”", passages[0])
    assert share == 1.0
    assert passages[0].text[start:end] == "Don't  wait\nfor the *oven"
    assert check_sentence("As the author put it, “don’t wait for the oven” [1].", passages).removed == 0
    assert check_sentence("As the author put it, “the toaster explodes every single time” [1].", passages).removed == 1


def test_support_may_stand_in_neighbouring_sentences_but_not_all_over_the_text():
    near = numbered("Flour is milled. Salt is mined. Yeast is grown.")
    far = numbered(
        "Flour is milled. "
        + "Nothing of this matters here. " * 5
        + "Salt is mined. "
        + "Or there. " * 5
        + "Yeast is grown."
    )
    claim = "Flour is milled, salt mined and yeast grown [1]."
    assert check_sentence(claim, near).removed == 0
    assert check_sentence(claim, far).removed == 1


def test_two_words_in_common_are_not_enough_for_a_short_claim_of_three():
    assert check_sentence("Bread [1].", PASSAGES).removed == 0
    assert check_sentence("Bread dances [1].", PASSAGES).removed == 1


def test_sentences_are_given_out_as_soon_as_their_citations_are_there():
    checker = CitationChecker(PASSAGES)
    assert list(checker.feed("Bread needs flour and salt. ")) == []  # its citation may still come
    assert list(checker.feed("[1")) == []
    assert list(checker.feed("] Cats")) == ["Bread needs flour and salt. [1] "]
    assert list(checker.finish()) == ["Cats"]


def test_text_that_never_ends_a_sentence_is_given_out_all_the_same():
    checker = CitationChecker(PASSAGES)
    given = [s for _ in range(500) for s in checker.feed("word after word ")]
    assert given
    assert "".join([*given, *checker.finish()]) == "word after word " * 500


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "[", "[1", "]", "【", "a [1", "x" * 5000, "。。。", "1. 2. 3.", "e.g. this"]
)
def test_nothing_is_lost_of_what_is_no_citation(text):
    assert checked(text)[0] == text


def test_other_scripts_are_checked_too():
    passages = numbered("面包需要面粉、水、盐和耐心。猫在睡觉。", "يحتاج الخبز إلى الدقيق والماء والملح والصبر.")
    text, checker = checked("面包需要面粉和盐[1]。الخبز يحتاج الدقيق والملح [2].", passages=passages)
    assert text == "面包需要面粉和盐[1]。الخبز يحتاج الدقيق والملح [2]."
    assert checker.removed == 0
    assert checked("汽车在高速公路上行驶[1]。", passages=passages)[1].removed == 1


def test_the_threshold_keeps_paraphrases_and_refuses_other_texts(shared_corpus):
    """The figures of docs/ask.md: sentences of real articles, as they are and with 30 % of their words replaced."""
    random = Random(5)
    articles = [one["content"] for one in json.loads(shared_corpus.read_text())]
    texts = ["\n\n".join(map(str, filter(None, one.values()))) for one in articles]
    windows = [text[at : at + 1200] for text in texts for at in range(0, len(text) - 600, 1200)]
    vocabulary = [word for text in texts for word in text.split() if len(word) > 4 and word.isalpha()]
    intact, paraphrased, unrelated = [], [], []
    for at in random.sample(range(len(windows)), 150):
        whole = [one.text for one in sentences(windows[at]) if 8 <= len(one.text.split()) <= 40]
        if not whole:
            continue
        words = random.choice(whole).split()
        other = [random.choice(vocabulary) if random.random() < 0.3 else word for word in words]
        [passage_, *others] = numbered(windows[at], *random.sample(windows, 4))
        intact.append(support(" ".join(words), passage_)[0] >= SUPPORT)
        paraphrased.append(support(" ".join(other), passage_)[0] >= SUPPORT)
        unrelated += [support(" ".join(words), one)[0] >= SUPPORT for one in others]
    assert sum(intact) == len(intact)
    assert sum(paraphrased) >= 0.7 * len(paraphrased)
    assert sum(unrelated) <= 0.03 * len(unrelated)
