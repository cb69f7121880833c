"""The promises of splitting, under token counters that could not be more different."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_engineering.features.cleaning.cleaned import Syntax
from llm_engineering.features.indexing.splitting import SMALLEST_LIMIT, split, split_all
from llm_engineering.infrastructure.embedders import HashingEmbedder, SentenceTransformerEmbedder

real = SentenceTransformerEmbedder("all-MiniLM-L6-v2").count_tokens


def by_bytes(texts):
    """As a byte-level encoder in the worst case; it counts white space too."""
    return [len(text.encode("utf-8", "surrogatepass")) + 2 for text in texts]


COUNTERS = {"wordpiece": real, "words": HashingEmbedder(8).count_tokens, "bytes": by_bytes}
SYNTAXES = ("markdown", "code", "text")

fragments = st.sampled_from(
    [
        *(
            "# T\n",
            "\n## Deep one\n\n",
            "a word ",
            "Done. ",
            "\n",
            "\n\n",
            " ",
            "\t",
            "```\n",
            "- item\n",
            "| a | b |\n",
        ),
        *(
            "def f(x):\n    return x\n",
            "漢字",
            "ḁ̈",
            "👨‍👩‍👧‍👦",
            "x" * 150,
            "﷽",
            "\u00a0",
            "\r\n",
            "![i](u)",
            "> q\n",
            "م",
        ),
    ]
)
documents = st.lists(fragments, max_size=120).map("".join) | st.text(max_size=400)


def check(text, spans, limit, count):
    assert "".join(text[span.start : span.end] for span in spans) == text
    assert [span.tokens for span in spans] == count([text[span.start : span.end] for span in spans])
    assert all(span.tokens <= limit for span in spans)


@pytest.mark.parametrize("counter", COUNTERS)
@settings(max_examples=60, deadline=None)
@given(text=documents, syntax=st.sampled_from(SYNTAXES), limit=st.integers(24, 256))
@example(text="\n" * 2000 + "x" + "\n" * 2000, syntax="markdown", limit=64)
def test_the_spans_join_to_the_text_and_none_overflows(counter, text, syntax, limit):
    count = COUNTERS[counter]
    spans = split(text, syntax=syntax, max_tokens=limit, count_tokens=count)
    if text.strip():
        check(text, spans, limit, count)
    else:
        assert spans == []
    if counter != "bytes":  # white space costs nothing, so there is always room for it beside a word
        assert all(text[span.start : span.end].strip() for span in spans)


@pytest.mark.parametrize(
    "text",
    [
        "ḁ̈" * 100_000,
        "x" * 1_000_000,
        "ab cd " * 50_000,
        "👨‍👩‍👧‍👦" * 5_000,
        "漢字仮名。" * 20_000,
        "QUJD+/==" * 20_000,
        "a" + " " * 300_000 + "b",
        "*" * 30_000,
        "[" * 20_000,
        "| a | b |\n" * 5_000,
        "a,b;" * 30_000 + "\n" + "short line\n" * 50,
    ],
    ids=[
        "marks",
        "one word",
        "one line",
        "emoji",
        "chinese",
        "base64",
        "blanks",
        "stars",
        "brackets",
        "table",
        "minified",
    ],
)
def test_hostile_text_keeps_the_promises(text):
    spans = split(text, syntax="markdown", max_tokens=256, count_tokens=real)
    check(text, spans, 256, real)
    assert all(text[span.start : span.end].strip() for span in spans)


def test_text_is_tokenized_hardly_more_than_once():
    text = "".join(
        f"## Part {i}\n\n" + "The quick brown fox jumps over the lazy dog. " * (i % 40) + "\n\n" for i in range(99)
    )
    counted = 0

    def counting(texts):
        nonlocal counted
        counted += sum(map(len, texts))
        return real(texts)

    split(text, syntax="markdown", max_tokens=256, count_tokens=counting)
    assert counted < 1.6 * len(text)


def test_many_at_once_are_cut_as_each_alone():
    texts: list[tuple[str, Syntax]] = [
        ("# A\n\n" + "Some words. " * 200, "markdown"),
        (" \n", "text"),
        ("x = 1\n" * 300, "code"),
        ("", "text"),
    ]
    each = [split(text, syntax=syntax, max_tokens=64, count_tokens=real) for text, syntax in texts]
    assert split_all(texts, max_tokens=64, count_tokens=real) == each
    assert split_all([], max_tokens=64, count_tokens=real) == []


def test_a_counter_that_loses_a_text_is_found_out():
    with pytest.raises(ValueError, match=r"2 texts were to be counted, and 1"):
        split("a b\n" * 20, syntax="text", max_tokens=16, count_tokens=lambda texts: real(texts[:1]))


def test_cuts_are_made_at_headings_rather_than_inside_sections():
    sections = [f"# Section {i}\n\n" + f"Words of section {i} go on and on. " * 15 + "\n\n" for i in range(8)]
    text = "".join(sections)
    spans = split(text, syntax="markdown", max_tokens=256, count_tokens=real)
    starts = {text.index(section) for section in sections}
    assert starts <= {span.start for span in spans}


def test_code_is_cut_between_lines():
    code = "".join(f"def f{i}(value):\n    total = value + {i}\n    return total\n\n\n" for i in range(80))
    spans = split(code, syntax="code", max_tokens=128, count_tokens=real)
    assert len(spans) > 10
    assert all(span.start == 0 or code[span.start - 1] == "\n" for span in spans)


def test_tiny_pieces_do_not_stand_alone():
    text = "".join(f"# {word}\n\nOne short line.\n\n" for word in "abcdefghijklmnopqrstuvwxyz")
    spans = split(text, syntax="markdown", max_tokens=128, count_tokens=real)
    assert all(span.tokens >= 128 // 4 for span in spans[:-1])


def test_a_heading_stays_with_the_text_below_it():
    text = ("Filler sentence number one here. " * 12 + "\n\n## Title\n\n" + "Body text of it. " * 25 + "\n\n") * 4
    spans = split(text, syntax="markdown", max_tokens=128, count_tokens=real)
    assert not any(text[span.start : span.end].rstrip().endswith("## Title") for span in spans)


def test_an_edit_moves_only_the_spans_near_it():
    parts = [f"# Part {i}\n\n" + f"Sentence {i} says something. " * 30 + "\n\n" for i in range(30)]

    def texts(whole):
        spans = split(whole, syntax="markdown", max_tokens=128, count_tokens=real)
        return {whole[span.start : span.end] for span in spans}

    before = texts("".join(parts))
    after = texts("".join([*parts[:10], "# Part 10\n\nRewritten entirely.\n\n", *parts[11:]]))
    assert len(after - before) <= 3


def test_a_limit_that_may_not_hold_a_character_is_refused():
    with pytest.raises(ValueError, match=f"at least {SMALLEST_LIMIT}"):
        split("text", syntax="text", max_tokens=SMALLEST_LIMIT - 1, count_tokens=real)


def test_a_character_that_cannot_fit_is_refused_not_lost():
    with pytest.raises(ValueError, match="one character"):
        split("abc", syntax="text", max_tokens=16, count_tokens=lambda texts: [99 for _ in texts])


def test_a_file_of_unusual_syntax_is_still_whole(shared_corpus):
    text = shared_corpus.read_text(encoding="utf-8")[:200_000]
    check(text, split(text, syntax="code", max_tokens=256, count_tokens=real), 256, real)
