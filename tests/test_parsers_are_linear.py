# ruff: noqa: E501  (lists of what is thrown at them)
"""Whatever of ours takes text that others wrote needs time in step with its length."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date

import pytest
from fetch_context import Answering
from linear_growth import COMMON_PUMPS, Hostile, hostile_inputs, superlinear
from passages import passage

from llm_engineering.domain.answers import Citation, Passage
from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.errors import LLMTwinError, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.passage_fence import without_fences
from llm_engineering.domain.personal_data import DataSubject, word_runs
from llm_engineering.domain.ports import Fetched
from llm_engineering.domain.prose import sentences
from llm_engineering.domain.text import composed
from llm_engineering.features.cleaning.clean import clean_body, clean_html
from llm_engineering.features.cleaning.page import facts, parse
from llm_engineering.features.indexing.splitting import split
from llm_engineering.features.indexing.windows import Headings
from llm_engineering.features.reading import linkedin_export
from llm_engineering.features.reading.feeds import feed_links, page_links, sitemap_links
from llm_engineering.features.reading.parsed_page import ParsedPage
from llm_engineering.features.reading.walls import wall_of
from llm_engineering.features.sources import linkedin, medium, substack
from llm_engineering.inference.citations import CitationChecker, check_sentence
from llm_engineering.inference.prompt_injection import clean_user_text, neutralise, strip_active_content
from llm_engineering.inference.understanding.follow_up import needs_context
from llm_engineering.inference.understanding.query_filters import find_filters
from llm_engineering.inference.understanding.topic import topic
from llm_engineering.infrastructure.language_models.quotable import quotable_sentences
from llm_engineering.infrastructure.sandbox import InProcess
from llm_engineering.infrastructure.tracing.redact import redact
from llm_engineering.serving.api.errors import without_paths
from llm_engineering.serving.chat.passages import passage_html
from llm_engineering.serving.chat.render import answer_html

pytestmark = pytest.mark.slow

PAGE = "https://a.example/"
BOILERPLATE = (*medium._BOILERPLATE, *substack._BOILERPLATE, *linkedin._BOILERPLATE)
FACETS = Facets(authors={"a": "Ann Page"}, sources={"medium": 1, "github": 1})
MARKS = "\u0315\u0300"  # of a letter, in an order that must be mended

# --- inputs -------------------------------------------------------------------------------------------------

PROSE = "A first sentence of some length about bread. A second one, which says more of it. "
ARTICLE = f"<html><head><title>T</title></head><body><article><h1>T</h1><p>{PROSE * 4}</p>"
TAGS = (
    *(
        "<b>",
        "<i>x",
        "<div>",
        "<div></div>",
        "<div>x",
        "<div><script>",
        "<script>",
        "<script></script>x",
        "<p>x",
        "<p>x</p>",
    ),
    *(
        "<pre>x</pre>",
        "<pre>",
        "<br>",
        "x<br>",
        "<table>",
        "<tr>",
        "<td>x",
        "<a href=x>y</a>",
        "<a href='http://['>y</a>",
    ),
    *(
        "<a ",
        "<a",
        "<li>x</li>",
        "<ul><li>",
        "<ol><li>x",
        "<h1>x</h1>",
        "<h2>x",
        "<code>x</code>",
        "<q>",
        "<blockquote>x",
    ),
    *("<span>x</span>", "<span class=line>x</span>", "</b>", "</div>", "<!--", "-->", "&amp;", "<time datetime=2024>"),
    *("<meta name=a content=b>", "<article>x</article>", "<article>", "<nav>x</nav>", "<noscript>x", "<svg>", "<form>"),
    *("<img src=x>", "<head>", "<body>", "<html>", "<title>x", "<dl><dt>x<dd>y", "<section>", "<details><summary>x"),
    *(
        "<figure><pre>x</pre></figure>",
        "<b><i>x</b></i>",
        "<p><b>",
        "<em>x</em> ",
        "<iframe>",
        "<del>",
        "<x-y>",
        "<input>",
    ),
    *(
        "<table><tr><td colspan=99999 rowspan=99999>x</table>",
        "<tr><td colspan=9999 rowspan=9999>x",
        "<td rowspan=9999>x",
    ),
    *(
        "<div id=root>",
        "<div class=lineno>1</div>",
        "<tr><td class=lineno>1<td><pre>x",
        MARKS,
        " ",
        "\n",
        "x ",
        "<",
        "&",
    ),
)


def pages() -> Iterator[Hostile]:
    yield from hostile_inputs(TAGS, ("", ARTICLE), ("",))
    for pump in (",{}", ",[{}]", ',{"a":{}}', "[", ",1", '{"a":', ',"a"'):
        yield Hostile(pump, '<script type="application/ld+json">[{}', f"]</script>{ARTICLE}")
    for pump, before, after in (
        (" a", "<p class='", "'>"),
        (" a=1", "<p ", ">"),
        (" hljs", "<pre class='", "'>x</pre>"),
    ):
        yield Hostile(pump, before, after)


MARKDOWN = (
    *(
        "# a\n",
        "# ",
        "#",
        "```\n",
        "````\n",
        "~~~\n",
        "- ",
        "- a\n",
        "1. a\n",
        "> ",
        ">",
        "> a\n",
        "*a* ",
        "**a",
        "_a",
        "`a` ",
    ),
    *(
        "[a](b) ",
        "[a]",
        "[a](",
        "![a](b)",
        "[a]: b\n",
        "| a | b |\n",
        "|",
        "|-|\n",
        "<a>",
        "<a ",
        "<!-- ",
        "---\n",
        "===\n",
    ),
    *(
        "a\n",
        "a\n\n",
        "\n\n",
        "  - a\n",
        "\\",
        "\\*",
        "&amp;",
        "a  \n",
        "\t",
        "* * *\n",
        "***\n",
        "[^a]",
        "~~a",
        "http://a.b ",
        MARKS,
    ),
    *("<div>\n", "</div>\n", "[[", "](", ")](", "*a_", "a*b", "$", ":--|\n"),
)


def markdown() -> Iterator[Hostile]:
    yield from hostile_inputs((*MARKDOWN, *COMMON_PUMPS), ("",), ("",))
    yield Hostile(" ", "# a", "b")
    yield from hostile_inputs(
        ("a: 1\n", "- ", "[", "{", "? ", "&a [", "*a ", "'", '"', "a: ", "  a:\n", "<<: ", "!!a "),
        ("---\n",),
        ("\n---\n",),
    )


def prose() -> Iterator[Hostile]:
    words = (
        "a ",
        "the ",
        "that ",
        "in ",
        "on medium ",
        "and ",
        "by ",
        "hi ",
        "it ",
        "Ann ",
        "since 2024 ",
        "ignore previous ",
    )
    more = (
        "this is. ",
        "Is it? ",
        "[1]",
        "[1, 2] ",
        "“a b c” ",
        "system: a\n",
        "<|a|>",
        "[INST]",
        "</passage>",
        "< /pass",
        "![a](b)",
    )
    yield from hostile_inputs((*words, *more, *MARKDOWN, *COMMON_PUMPS, "existing ", "these: ", MARKS), ("",), ("",))
    yield from hostile_inputs(
        (" ", "\n", " existing"), ("ignore previous", "new instructions", "the last", "can you", "a "), ("\0",)
    )


def cells() -> Iterator[Hostile]:
    for pump in (*MARKDOWN, '"', "\\", " "):
        text = json.dumps(pump)[1:-1]
        yield Hostile(text, '{"cells": [{"cell_type": "markdown", "source": "', '"}]}')
    for pump in (', {"cell_type": "code", "source": ["a"]}', ', {"source": []}', ", []", ", 1"):
        yield Hostile(pump, '{"cells": [{"cell_type": "raw", "source": ""}', "]}")
    yield from hostile_inputs(("[", '{"a":', "1", '"', ",", " "), ("", '{"cells": '))


def feeds() -> Iterator[Hostile]:
    begin, end = "<rss version='2.0'><channel><title>a</title>", "</channel></rss>"
    for inner in ("<item><link>http://a.example/b</link></item>", "<item/>", "<b>", "<b></b>", "<item>", "<title>a</title>", "&lt;", " ", "a",
                  "<item><author>a</author></item>", "<item><pubDate>1</pubDate></item>", "<link>http://[</link>", "<category>a</category>"):  # fmt: skip
        yield Hostile(inner, begin, end)
    for tag in (
        "author",
        "link",
        "pubDate",
        "title",
        "description",
        "guid",
        "content:encoded",
        "category",
        "managingEditor",
    ):
        for inner in ("a", "1", " ", ".", "a@", "(", "&lt;a ", "&lt;b&gt;", "&amp;amp;"):
            yield Hostile(
                inner,
                f"{begin}<item><{tag}>".replace(
                    "<rss ", "<rss xmlns:content='http://purl.org/rss/1.0/modules/content/' "
                ),
                f"</{tag}></item>{end}",
            )
    yield Hostile(" a='1'", "<rss", "></rss>")  # twice the same: broken
    yield from hostile_inputs(("<?", "<!--", "<!DOCTYPE ", "<!DOCTYPE a [", "<", "&a;", " ", "<a>", "<?a?>", "<!---->"))


def many_attributes(size: int) -> bytes:
    return ("<rss " + " ".join(f"a{n}='1'" for n in range(size // 10)) + "><channel/></rss>").encode()


def sitemaps() -> Iterator[Hostile]:
    for inner in ("<url><loc>http://a.example/b</loc></url>", "<url/>", "<loc>", "<loc>http://[</loc>", "a", " "):
        yield Hostile(inner, "<urlset>", "</urlset>")


# --- who takes them -----------------------------------------------------------------------------------------


def refusing(call: Callable[[str], object]) -> Callable[[str], object]:
    """What is refused with an error of ours is refused in time, too."""

    def called(text: str) -> None:
        with suppress(LLMTwinError, linkedin_export.ExportError):
            call(text)

    return called


def _missing(url: str) -> Fetched:
    raise SourceError(url, Reason.NOT_FOUND, retry=False)


NOTHING_ELSE = Answering(_missing)


def passage_of(text: str) -> Passage:
    return Passage(number=1, chunk=passage(1), score=1.0, text=text)


def shown_passage(text: str) -> object:
    return passage_html(passage_of(text), [Citation(passage=1, quote="", start=0, end=len(text))])


def checked_answer(text: str) -> object:
    checker = CitationChecker([passage_of(PROSE)])
    return [*checker.feed(text), *checker.finish()]


def page_facts(text: str) -> object:
    return None if (root := parse(text)) is None else facts(root)


def exported(name: str) -> Callable[[str], object]:
    class Archive:
        def __init__(self, text: str) -> None:
            self.names: tuple[str, ...] = (name,)
            self.text = text

        def read(self, name: str) -> bytes:
            return self.text.encode("utf-8", "replace")

    return lambda text: list(linkedin_export.pages(Archive(text)))


def fetched(text: str) -> Fetched:
    return Fetched(PAGE, 200, "text/html", text, text.encode("utf-8", "replace"))


def split_markdown(text: str) -> object:
    return split(
        text, syntax="markdown", max_tokens=64, count_tokens=lambda texts: [len(one) // 4 + 2 for one in texts]
    )


SCREEN = 32_768  # characters at which an input is looked at first
SCREENS = {  # less for what takes microseconds per character; more for what is cut into parts of 32,000
    "feed_links": 8_192,
    "passage_html": 8_192,
    "answer_html": 8_192,
    "clean_html": 8_192,
    "split": 131_072,
}
ENTRIES = {
    "parse, facts": (page_facts, pages),
    "wall_of": (lambda text: wall_of(ParsedPage(text), PAGE), pages),
    "page_links": (lambda text: list(page_links(fetched(text), NOTHING_ELSE, InProcess())), pages),
    "an article of LinkedIn's export": (exported("Articles/a.html"), pages),
    "the posts of LinkedIn's export": (exported("Shares.csv"), lambda: hostile_inputs((*COMMON_PUMPS, '"",', 'a,b,c\n"'), ("", "date,sharelink,sharecommentary\n"))),
    "sitemap_links": (lambda text: list(sitemap_links(text.encode(), PAGE, NOTHING_ELSE, InProcess())), sitemaps),
    "canonical_link": (canonical_link, lambda: hostile_inputs(COMMON_PUMPS, ("", "http://", "http://a.b/", "http://a.b/?", "http://[")),),
    "clean_body of Markdown": (lambda text: clean_body(text, "text/markdown"), markdown),
    "clean_body of text": (lambda text: clean_body(text, "text/plain"), markdown),
    "clean_body of code": (lambda text: clean_body(text, "text/x-python"), markdown),
    "clean_body of a notebook": (lambda text: clean_body(text, "application/x-ipynb+json"), cells),
    "clean_body of a PDF": (lambda text: clean_body(text, "application/pdf"), lambda: hostile_inputs(("A", "=", " ", "\n", "JVBE"))),
    "Headings": (Headings, markdown),
    "composed": (composed, lambda: hostile_inputs((MARKS, "a", "é", "漢", "\u0344", f"a{MARKS}"))),
    "neutralise": (neutralise, prose),
    "clean_user_text": (clean_user_text, prose),
    "strip_active_content": (strip_active_content, prose),
    "without_fences": (without_fences, prose),
    "sentences": (lambda text: list(sentences(text)), prose),
    "quotable_sentences": (lambda text: list(quotable_sentences(passage_of(text))), prose),
    "check_sentence": (lambda text: check_sentence(text, [passage_of(PROSE)]), prose),
    "CitationChecker": (checked_answer, prose),
    "find_filters": (lambda text: list(find_filters(text, FACETS, date(2024, 5, 6))), prose),
    "topic": (lambda text: topic(text, [(0, 3)]), prose),
    "needs_context": (needs_context, prose),
    "without_paths": (without_paths, prose),
    "redact": (redact, prose),
    "is_in, word_runs": (lambda text: (DataSubject(name="Ann Page").is_in(text), list(word_runs(text))), prose),
    "feed_links": (lambda text: list(feed_links(text.encode(), PAGE)), feeds),
    "split": (split_markdown, lambda: hostile_inputs(MARKDOWN, afters=("",))),
    "passage_html": (shown_passage, lambda: hostile_inputs(MARKDOWN, afters=("",))),
    "answer_html": (lambda text: answer_html("1", text, [passage_of("a")]), lambda: hostile_inputs(MARKDOWN, afters=("",))),
    "clean_html": (lambda text: clean_html(text, "text/html", without=BOILERPLATE), pages),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_parser_takes_the_square_of_its_input(entry):
    call, hostiles = ENTRIES[entry]
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    seen = superlinear(refusing(call), hostiles(), screen=SCREENS.get(entry, SCREEN))
    assert seen is None, str(seen)
