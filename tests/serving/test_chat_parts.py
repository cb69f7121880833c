"""The chat page without a browser: what it shows is escaped, what it searches is what was chosen, errors are told."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from chat_service import FACETS, PASSAGES, MiniatureService, calls_of, chunk

from llm_engineering.domain.answers import Answer, Citation, Delta, Message, ParsedQuestion, Passage, Question
from llm_engineering.domain.chunks import Facets, Where
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import BadQuestion, ModelUnavailable, StoreUnavailable
from llm_engineering.serving.api.errors import ApiError
from llm_engineering.serving.api.service import Component, Readiness
from llm_engineering.serving.chat.conversation import (
    MAX_HISTORY,
    MAX_QUESTION,
    answer_turn,
    extended_history,
    turn_updates,
)
from llm_engineering.serving.chat.filters import example_question, example_titles, filter_choices, where_of
from llm_engineering.serving.chat.passages import passage_html
from llm_engineering.serving.chat.render import answer_html, error_html, question_html, source_html
from llm_engineering.serving.chat.welcome import empty_html, greeting_html, not_ready_html


class Seen(HTMLParser):
    """What a browser would make of it: the tags, the links, the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.links, self.text, self.attributes = [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def answer(text: str = "Yes. [1]") -> Answer:
    return Answer(text=text, answered=True, passages=PASSAGES, understood=ParsedQuestion(queries=("q",)), trace_id="t")


def passage(text, **fields):
    return Passage(number=1, chunk=chunk(1, "T", text).model_copy(update=fields), score=1.0, text=text)


# --- what is shown -------------------------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/p.png)",
    "<https://evil.example>",
    "[1]: https://evil.example\n\n[1]",
    '"><svg onload=alert(1)>',
    "</div></div><iframe src=//evil.example>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_becomes_a_tag_or_a_link(text):
    html = (
        answer_html("1", text, [passage(text, title=text, author_name=text, headings=(text,))], answer(text))
        + answer_html("1", text, PASSAGES)
        + question_html(text)
        + error_html(text)
    )
    seen = Seen(html)
    assert not {"script", "img", "svg", "iframe"} & set(seen.tags)
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert set(seen.links) <= {"#source-1-1", "https://example.com/1", "https://example.com/2"}


def test_a_citation_leads_to_its_source_and_only_if_there_is_one():
    seen = Seen(answer_html("7", "One [1], two [2][3], none [9], code `[1]`.", PASSAGES))
    cites = [link for link in seen.links if link.startswith("#")]
    assert cites == ["#source-7-1", "#source-7-2", "#source-7-3"]
    assert "none [9], code [1]" in seen.text


def test_an_answer_is_formatted():
    tags = Seen(answer_html("1", "# A\n\n**b** `c`\n\n- d\n\n| e | f |\n|---|---|\n| g | h |", ())).tags
    assert {"h1", "strong", "code", "li", "table", "td"} <= set(tags)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "/a/b.md", "http://["]
)
def test_only_web_links_can_be_clicked(url):
    seen = Seen(source_html("1", passage("text", url=url), ()))
    assert seen.links == []
    assert url in seen.text


def test_a_source_shows_title_author_date_place_passage_and_link():
    seen = Seen(source_html("1", PASSAGES[0], ()))
    for words in (
        "Cut along the grain",
        "Ada Example",
        "2025-01-03",
        "article",
        "In practice",
        "where its author paused",
    ):
        assert words in seen.text
    assert seen.links == ["https://example.com/1"]


def test_a_source_without_title_or_date_shows_its_link():
    seen = Seen(source_html("1", passage("text", title=" ", published_at=None), ()))
    assert "https://example.com/1" in seen.text
    assert "None" not in seen.text


def marked(text, *quotes, **fields):
    cited = [Citation(passage=1, quote=q, start=(at := text.index(q)), end=at + len(q)) for q in quotes]
    return passage_html(passage(text, **fields), cited)


def test_what_is_cited_is_marked():
    assert marked("a bc d", "bc") == "<p>a <mark>bc</mark> d</p>\n"
    assert marked("abcdef", "abc", "cd", "f") == "<p><mark>abcd</mark>e<mark>f</mark></p>\n"
    assert marked("one two. three", "one two.") == "<p><mark>one two.</mark> three</p>\n"
    assert marked("abc") == "<p>abc</p>\n"
    beyond = [Citation(passage=1, quote="x", start=start, end=end) for start, end in ((2, 99), (3, 3), (-5, 0))]
    assert passage_html(passage("abc"), beyond) == "<p>ab<mark>c</mark></p>\n"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("# A *heading*\n\nand **bold `code`** text", {"em", "strong", "code", "p"}),
        ("1. one\n2. two\n\n- three\n  - four", {"ol", "ul", "li"}),
        ("```python\ndef f(x):\n    return x < 1\n```\n\n    more(code)", {"pre", "code"}),
        ("| a | b |\n|---|---|\n| c | d |\n\n> said", {"table", "td", "blockquote"}),
        ("see [the *paper*](https://evil.example/paper) and _that_, snake_case", {"em"}),
        ("क्षि न 你好 شكرا, it's 3.5 %", {"p"}),
    ],
)
def test_a_marked_passage_is_formatted_as_it_is_unmarked(text, tags):
    unmarked, wholly = marked(text), marked(text, text)
    assert wholly.replace("<mark>", "").replace("</mark>", "") == unmarked
    assert tags <= set(Seen(unmarked).tags)
    outside = "".join(part.partition("</mark>")[2] for part in f"</mark>{wholly}".split("<mark>"))
    assert not any(letter.isalpha() for letter in Seen(outside).text), "every word of it is marked"


def test_a_quotation_that_runs_over_paragraphs_is_marked_in_each():
    html = marked("One two.\n\n- three **four**\n- five", "two.\n\n- three **four**")
    assert [part.partition("</mark>")[0] for part in html.split("<mark>")[1:]] == ["two.", "three", "four"]


def test_code_of_a_repository_stays_code_and_its_readme_is_markdown():
    text = "# what it does\ndef f():\n    return '<b>'"
    code = {"kind": Kind.REPOSITORY, "link": "https://github.com/a/b/blob/HEAD/f.py"}
    assert marked(text, "what it", **code) == (
        "<pre><code># <mark>what it</mark> does\ndef f():\n    return &#x27;&lt;b&gt;&#x27;</code></pre>"
    )
    assert "heading" in marked(text, **(code | {"link": "https://github.com/a/b/blob/HEAD/README.md"}))


@pytest.mark.parametrize("text", ["\ue000a\ue001", "\ue001<b>\ue000", "a\ud800b", "\x00"])
def test_characters_that_stand_for_marks_mark_nothing(text):
    html = marked(text)
    assert "mark>" not in html
    assert "<b>" not in html
    assert not {"\ue000", "\ue001"} & set(html)
    html.encode()


def test_what_was_removed_or_looks_like_instructions_is_said():
    given = answer().model_copy(
        update={
            "removed_citations": 2,
            "suspicious_passages": (3,),
            "model": "m<1>",
            "understood": ParsedQuestion(queries=("q", "other words"), notes=("no author of that name",)),
        }
    )
    seen = Seen(answer_html("1", given.text, PASSAGES, given))
    for words in (
        "2 citations could not be verified",
        "looks like instructions",
        "m<1>",
        "other words",
        "no author of",
    ):
        assert words in seen.text
    assert seen.text.count("looks like instructions") == 1


def test_lone_surrogates_are_shown_as_replacement_characters():
    assert "a\ufffdb" in question_html("a\ud800b")


# --- filters -------------------------------------------------------------------------------------------------------


def test_what_was_chosen_is_the_filter():
    assert where_of([], [], [], "", " ") is None
    assert where_of(None, None, None, None, None) is None
    assert where_of(["a", "b"], ["article"], ["substack"], "2025-01-02", "2025-02-28") == Where(
        author_id=("a", "b"),
        kind=(Kind.ARTICLE,),
        source=("substack",),
        published_from=datetime(2025, 1, 2, tzinfo=UTC),
        published_to=datetime(2025, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("yesterday", "", "“from” is no day"),
        ("", "2025-02-30", "“to” is no day"),
        ("2025-02-02", "2025-02-01", "wrong way round"),
        ("", "9999-12-31", "“to” is no day"),
    ],
)
def test_a_wrong_day_is_told(since, until, words):
    with pytest.raises(BadQuestion, match=words):
        where_of([], [], [], since, until)


def test_no_more_can_be_chosen_than_the_api_takes():
    assert where_of(["a"] * 50, None, None, None, None)
    with pytest.raises(BadQuestion, match="at most 50"):
        where_of(["a"] * 51, None, None, None, None)


def test_a_kind_that_does_not_exist_is_told():
    with pytest.raises(BadQuestion, match="no kind"):
        where_of([], ["poem"], [], "", "")


def test_choices_are_in_an_order_that_can_be_searched():
    authors, kinds, sources = filter_choices(FACETS)
    assert authors == [("Ada Example", "ada"), ("Ben Beispiel", "ben")]
    assert (kinds, sources) == (["article", "repository"], ["github", "substack"])


def test_example_questions_are_made_of_titles():
    chunks = [
        chunk(n, title, "x") for n, title in enumerate(("Short", "A title\n of  use", "A title of use", "y" * 99), 1)
    ]
    assert example_titles(chunks, 3) == ("A title of use",)
    assert example_titles((chunk(1, f"A title, number {n}", "x") for n in range(9)), 2) == (
        "A title, number 0",
        "A title, number 1",
    )
    assert example_question("Why do CPUs wait?") == "Why do CPUs wait?"
    assert "Cut along" in example_question("Cut along the grain")


# --- before the first question -------------------------------------------------------------------------------------


def test_an_empty_index_says_what_to_run():
    assert "poe run-etl" in empty_html()
    assert "make quickstart" in empty_html()


def test_what_is_not_ready_is_named():
    pieces = (Component(name="model", ready=True), Component(name="<index>", ready=False, reason="is <empty>"))
    text = Seen(not_ready_html(Readiness(components=pieces))).text
    assert "<index>: is <empty>" in text
    assert "model:" not in text
    assert "poe doctor" in text


def test_the_greeting_names_authors_and_sizes():
    text = Seen(greeting_html(FACETS)).text
    assert "Ada Example, Ben Beispiel" in text
    assert "1,200 article passages" in text
    many = Facets(authors={str(n): f"Author {n}" for n in range(9)}, kinds={Kind.POST: 1})
    assert "Author 3 and 5 more" in Seen(greeting_html(many)).text


# --- one turn -------------------------------------------------------------------------------------------------------


def turn_updates_of(service, text="How?", history=(), where=lambda: None):
    async def updates():
        async with calls_of(service) as calls:
            return [
                one async for one in answer_turn(text, history=history, where=where, calls=calls, owner=None, turn="1")
            ]

    return asyncio.run(updates())


def test_the_answer_grows_and_ends_whole():
    ticks = iter(range(1000))
    events = MiniatureService().answer(Question(text="How?"))
    steps = list(turn_updates(events, lambda: False, turn="1", clock=lambda: next(ticks)))
    texts = [Seen(step.html).text for step in steps]
    assert any("Reading 3 passages" in text for text in texts)
    growing = [text for text in texts if "Cut a text" in text]
    assert len(growing) == 4
    assert all("Cut along the grain" in text for text in growing), "its sources are there from the beginning"
    assert steps[-1].answer is not None
    assert steps[-1].answer.trace_id == "trace-1"
    assert all(step.answer is None for step in steps[:-1])
    assert "<mark>" in steps[-1].html


def test_the_question_is_shown_at_once_and_with_every_step():
    steps = turn_updates_of(MiniatureService(), "How & why?")
    assert "Reading the question" in steps[0].html
    assert all(step.html.startswith(question_html("How & why?")) for step in steps)
    assert steps[-1].answer.trace_id == "trace-1"


def test_many_small_pieces_are_not_shown_one_by_one():
    service = MiniatureService()
    service.pieces = tuple("x" for _ in range(1000))
    steps = turn_updates(service.answer(Question(text="How?")), lambda: False, turn="1", clock=lambda: 1.0)
    assert len(list(steps)) < 10


def test_history_and_filters_go_along():
    service, turns = MiniatureService(), tuple(Message(role="user", content=str(n)) for n in range(MAX_HISTORY + 5))
    turn_updates_of(service, history=turns, where=lambda: Where(author_id="ada"))
    assert service.questions[0].where == Where(author_id="ada")
    assert service.questions[0].history == turns[-MAX_HISTORY:]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no question"), (" \n", "no question"), ("x" * (MAX_QUESTION + 1), "shorten it")],
)
def test_a_question_that_cannot_be_asked_is_told(text, words):
    service = MiniatureService()
    assert words in turn_updates_of(service, text)[-1].html
    assert service.questions == []


def test_a_wrong_filter_is_told_and_nothing_is_asked():
    service = MiniatureService()
    assert "is no day" in turn_updates_of(service, where=lambda: where_of([], [], [], "x", ""))[-1].html
    assert service.questions == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModelUnavailable("the model at http://10.0.0.7:1234 does not answer; start it"), "does not answer; start it"),
        (StoreUnavailable("/secret/place/vectors is away"), "store"),
        (ApiError(503, "the server is busy"), "the server is busy"),
        (ZeroDivisionError("a bug with /secret/place in it"), "something went wrong in the server"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_an_error_is_told_in_the_turn_and_what_was_written_stays(error, words, early):
    service = MiniatureService()
    service.error, service.early = error, early
    last = turn_updates_of(service)[-1]
    assert last.answer is None
    seen = Seen(last.html)
    assert words in seen.text
    assert ("Cut a text" in seen.text) is not early
    for hidden in ("/secret/place", "10.0.0.7", "ZeroDivision"):
        assert hidden not in seen.text


def test_text_that_was_not_shown_yet_is_shown_when_the_model_fails():
    def events():
        yield from (Delta(text="first "), Delta(text="second"))
        raise ModelUnavailable("gone")

    steps = turn_updates(events(), lambda: False, turn="1", clock=lambda: 1.0)
    assert "second" not in next(steps).html
    assert "first second" in next(steps).html
    with pytest.raises(ModelUnavailable):
        next(steps)


def test_who_leaves_stops_the_model():
    async def left(service):
        async with calls_of(service) as calls:
            async with aclosing(
                answer_turn("How?", history=(), where=lambda: None, calls=calls, owner=None, turn="1")
            ) as steps:
                async for step in steps:
                    if "Cut a text" in step.html:
                        break
            assert await asyncio.to_thread(service.closed.wait, 20)
            return calls.metrics.text(service.ready()).decode()

    service = MiniatureService()
    service.hold = True
    assert 'twin_answers_total{outcome="abandoned"} 1.0' in asyncio.run(left(service))


# --- the bounds of the API -----------------------------------------------------------------------------------------


def test_questions_of_the_page_count_in_the_bounds_and_the_metrics_of_the_api():
    async def tried(service):
        async with calls_of(service, threads=1, waiting=0) as calls:
            options = {"history": (), "where": lambda: None, "calls": calls, "owner": None, "turn": "1"}
            async with aclosing(answer_turn("First?", **options)) as first:
                while not (await anext(first)).written:
                    pass
                refused = [one async for one in answer_turn("Second?", **options)]
                assert "the server is busy; try again in a moment" in Seen(refused[-1].html).text
                service.go.set()
                assert [one async for one in first][-1].answer
            metrics = calls.metrics.text(service.ready()).decode()
            assert 'twin_answers_total{outcome="answered"} 1.0' in metrics
            assert 'twin_answers_total{outcome="failed"} 1.0' in metrics
            assert "twin_tokens_total" in metrics

    service = MiniatureService()
    service.hold = True
    asyncio.run(tried(service))
    assert [one.text for one in service.questions] == ["First?"]


def test_an_answer_that_takes_too_long_is_told_on_the_page():
    async def tried(service):
        async with calls_of(service, answer_seconds=0.2) as calls:
            steps = answer_turn("How?", history=(), where=lambda: None, calls=calls, owner=None, turn="1")
            return [one async for one in steps][-1].html

    service = MiniatureService()
    service.hold = True
    text = Seen(asyncio.run(tried(service))).text
    assert "no complete answer within 0.2 seconds" in text


def test_a_server_that_is_being_stopped_takes_no_question_of_the_page():
    async def tried(service):
        async with calls_of(service) as calls:
            assert await asyncio.to_thread(calls.workers.close, 5)
            steps = answer_turn("How?", history=(), where=lambda: None, calls=calls, owner=None, turn="1")
            return [one async for one in steps][-1].html

    service = MiniatureService()
    assert "the server is being stopped; try again soon" in asyncio.run(tried(service))
    assert service.questions == []


def test_a_conversation_is_remembered_for_a_while():
    history = ()
    for number in range(MAX_HISTORY):
        history = extended_history(history, f"q{number}", answer(f"a{number}"))
    assert len(history) == MAX_HISTORY
    assert [one.content for one in history[-2:]] == [f"q{MAX_HISTORY - 1}", f"a{MAX_HISTORY - 1}"]
