from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.features.indexing.windows import LONGEST_HEADING, Headings, window

TEXT = """intro

# One

## Two [link](http://x) and **bold** ##

text

```python
# not a heading
```

~~~
# nor this
```
# nor that
~~~

### Three

# Four
   ## Five
    ## indented code, no heading
#hashtag
##
end
"""


def test_the_breadcrumb_is_what_stands_above():
    headings = Headings(TEXT)
    two = ("One", "Two link and bold")
    assert headings.at(TEXT.index("intro")) == ()
    for below in ("text", "not a", "nor this", "nor that"):
        assert headings.at(TEXT.index(below)) == two
    assert headings.at(TEXT.index("### Three")) == (*two, "Three")


def test_a_heading_ends_those_of_its_level_and_below():
    headings = Headings(TEXT)
    assert headings.at(TEXT.index("# Four")) == ("Four",)
    assert headings.at(TEXT.index("indented code")) == ("Four", "Five")
    assert headings.at(TEXT.index("#hashtag")) == ("Four", "Five")
    assert headings.at(TEXT.index("end")) == ("Four",)  # an empty ## names nothing


def test_a_heading_as_long_as_a_page_is_cut():
    [title] = Headings("# " + "[" * 1_000_000).at(5)
    assert len(title) == LONGEST_HEADING


def test_an_unclosed_fence_reaches_to_the_end():
    assert Headings("# A\n\n```\n# b\n").at(12) == ("A",)


def test_a_window_begins_and_ends_at_paragraphs():
    paragraphs = [f"Paragraph {i} with a few words in it." for i in range(40)]
    text = "\n\n".join(paragraphs)
    start = text.index(paragraphs[20])
    seen = window(text, start, start + len(paragraphs[20]), size=300)
    assert set(seen.split("\n\n")) <= set(paragraphs)
    assert paragraphs[19] in seen and paragraphs[21] in seen  # noqa: PT018
    assert len(seen) <= 300


def test_without_paragraphs_it_begins_and_ends_at_sentences_then_words():
    text = "One sentence is here. " * 50
    middle = text.index("One", 500)
    seen = window(text, middle, middle + 21, size=200)
    assert seen.startswith("One sentence")
    assert seen.endswith("here.")
    words = "word " * 200
    assert set(window(words, 500, 504, size=100).split()) == {"word"}


def test_at_the_edges_of_the_text_all_the_room_is_used():
    text = "abc " * 100
    assert len(window(text, 0, 3, size=100)) > 90
    assert len(window(text, 396, 400, size=100)) > 90


@given(st.text(max_size=300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 500))
def test_the_passage_is_always_inside_its_window(text, one, other, size):
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    seen = window(text, start, end, size=size)
    assert text[start:end].strip() in seen
    assert len(seen) <= max(size, end - start)
