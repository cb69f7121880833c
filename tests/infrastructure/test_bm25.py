"""What the one sparse encoder promises to both adapters."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import passage

from llm_engineering.infrastructure.vectors.bm25 import (
    AVERAGE_WORDS,
    K1,
    B,
    encode_passage,
    encode_question,
    index_of,
    passage_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Running runs, RUN!", ["run", "run", "run"]),
        ("the vector store's id", ["the", "vector", "store", "s", "id"]),
        ("parse_url", ["parse_url", "pars", "url"]),
        ("parseUrl(x)", ["parseurl", "pars", "url", "x"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("gpt4", ["gpt4", "gpt", "4"]),
        ("naïve Übung", ["naïv", "übung"]),
        ("北京 city", ["北", "京", "citi"]),
        ("abc漢字def", ["abc", "漢", "字", "def"]),
        ("", []),
        ("?! … --- \x00", []),
    ],
)
def test_the_words_of_a_text(text, expected):
    assert encode_question(text).indices == [index_of(word) for word in dict.fromkeys(expected)]
    assert set(encode_passage(text).indices) == {index_of(word) for word in expected}


def test_an_index_never_changes():
    """Stored vectors hold these numbers; another hash would make every index unreadable without a word."""
    assert encode_question("vector database").indices == [1348029547, 4255085690]


def test_weights_are_bm25_term_frequencies():
    text = "apple " * 3 + "pear " + "plum " * 36
    sparse = encode_passage(text)
    weight = dict(zip(sparse.indices, sparse.values, strict=True))
    normal = K1 * (1 - B + B * 40 / AVERAGE_WORDS)
    assert weight[index_of("appl")] == pytest.approx(3 * (K1 + 1) / (3 + normal))
    assert weight[index_of("pear")] == pytest.approx(1 * (K1 + 1) / (1 + normal))
    assert len(weight) == 3


def test_a_word_weighs_less_in_a_longer_passage_and_more_when_repeated():
    def weight(text):
        sparse = encode_passage(text)
        return dict(zip(sparse.indices, sparse.values, strict=True))[index_of("appl")]

    assert weight("apple pie") > weight("apple pie " + "and other things " * 20)
    assert weight("apple pie") < weight("apple apple pie") < K1 + 1


def test_in_a_question_every_word_weighs_one():
    sparse = encode_question("red red apples and an apple")
    assert sparse.values == [1.0] * 4  # red, appl, and, an


def test_a_passage_is_found_by_its_title_and_headings():
    text = passage_text(passage(1, title="Zeppelins", headings=("Engines", "Diesel"), text="They were heavy."))
    assert {index_of(word) for word in ("zeppelin", "engin", "diesel", "heavi")} <= set(encode_passage(text).indices)


@given(st.text())
def test_any_text_gives_a_vector_the_engines_take(text):
    sparse = encode_passage(text)
    assert len(sparse.indices) == len(set(sparse.indices)) == len(sparse.values)
    assert all(0 <= index < 2**32 for index in sparse.indices)
    assert all(value > 0 for value in sparse.values)
    assert set(encode_question(text).indices) == set(sparse.indices)


@given(st.lists(st.sampled_from(["red", "green", "parse_url"]), max_size=20))
def test_the_order_of_the_words_does_not_matter(tokens):
    one, other = (Counter(dict(zip(*encode_passage(" ".join(order)), strict=True))) for order in (tokens, tokens[::-1]))
    assert one == other
