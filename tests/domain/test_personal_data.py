"""A person is recognised by name, ids and links wherever a text was kept, and ordinary words are not them."""

import html
import json

import pytest

from llm_engineering.domain.documents import Author
from llm_engineering.domain.personal_data import QUOTED_WORDS, DataSubject, word_runs

DOCUMENT = "0b7a3c52-1d2e-5f60-8a9b-0c1d2e3f4a5b"
ANN = DataSubject(
    name="Zo\u00eb Other",
    document_ids=frozenset([DOCUMENT]),
    links=frozenset(["https://ann.example/post", "https://ann.example/blog/", "file:///notes/a%20b.md"]),
)


@pytest.mark.parametrize(
    "text",
    [
        "so says Zo\u00eb Other.",
        "zo\u00cb   OTHER",
        "crawl_Zo\u00eb_Other",
        f"document {DOCUMENT} was read",
        ANN.author_id,
        "see https://ann.example/post.",
        "(https://ann.example/post/)",
        "https://ann.example/post?utm_source=x#end",
        "https://ann.example/blog and more",
        "[a](https://ann.example/blog/2024/)",
        "file:///notes/a%20b.md: missing",
    ],
)
@pytest.mark.parametrize("kept_as", [str, json.dumps, html.escape, lambda text: json.dumps({"a": [text]})])
def test_a_person_is_found_however_a_text_was_kept(text, kept_as):
    assert ANN.is_in(kept_as(text))


@pytest.mark.parametrize(
    "text",
    [
        "Zo\u00eb Otherwise",
        "Chlo\u00eb Zo\u00ebother",
        "Zo\u00eb, and another",
        DOCUMENT.replace("0", "1"),
        "https://ann.example/posts",
        "https://ann.example/",
        "http://bob.example/?from=https:",
        "file:///notes/a%20b.mdx",
    ],
)
def test_what_only_looks_alike_is_not_the_person(text):
    assert not ANN.is_in(text)


def test_a_name_of_one_word_counts_only_where_it_stands_for_itself():
    will = DataSubject(name="Will")
    assert all(map(will.is_in, ('{"name": "Will"}', "<td>Will</td>", 'author="will"', json.dumps('author="Will"'))))
    assert not any(map(will.is_in, ("Will it rise?", "he said: Will it?", "will", '"Willow"')))


def test_more_that_becomes_known_is_looked_for_too():
    assert not ANN.is_in("https://ann.example/new")
    assert ANN.knowing(links=["https://ann.example/new"]).is_in("https://ann.example/new")
    assert ANN.knowing(trace_ids=["x"]).knowing(document_ids=["y"]) == ANN.knowing(trace_ids=["x"], document_ids=["y"])
    assert ANN.author_id == Author(name=" zo\u00eb  OTHER ").id


def test_texts_that_share_enough_words_in_a_row_quote_each_other():
    words = [f"word{number}" for number in range(QUOTED_WORDS)]
    said = set(word_runs(" ".join(words)))
    assert said
    assert not said.isdisjoint(word_runs(json.dumps("He said:\n" + ",\n".join(words).upper() + ", you know")))
    assert said.isdisjoint(word_runs(" ".join([*words[:-1], "else", *words[:-1]])))
    assert not set(word_runs("\u6211" * QUOTED_WORDS)).isdisjoint(word_runs("\u4f60" + "\u6211" * QUOTED_WORDS))
