# ruff: noqa: E501  (lists of what is thrown at them)
"""Nothing but an error of ours comes out of a cleaner or a reader, whatever goes in."""

import base64
import gzip
import io
import json
import zipfile
from datetime import datetime, timedelta

import pytest
from fetch_context import Answering, fetch_context
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pdf_files import written

from llm_engineering.domain.errors import CleaningError, SourceError
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import Fetched
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.page import parse_date
from llm_engineering.features.reading.feeds import feed_entries, links_at
from llm_engineering.features.reading.pages import page_and_wall
from llm_engineering.features.source import Target
from llm_engineering.features.sources import SOURCES, linkedin, medium, substack
from llm_engineering.infrastructure.sandbox import InProcess

quick = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
PAGE = "https://a.example/"
DATES = (
    "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00", "2024-13-45", "99999999999-01-01", "2024-02-30 10:00:00",
    "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 32 Foo 2024 99:99:99 +9999", "2024-01-02T03:04:05+99:99", "20240102",
    "Thu, 01 Jan 1 00:00:00 +2359", "1e999", "nan", "0000-00-00", "2024-01-02t03:04:05 -25:00", "0001-01-01 00:00:00 +14:00",
)  # fmt: skip
LINKS = (
    "http://[", "http://[::1", "http://a:b:c/", "http://a:99999999/", "//[", "http://]", "https://\u2100.example/", "http://a@[b",
    "javascript:x", "http://x.example:٣/", "http://\ud800/", "data:,x", "http://%zz/", "", "#", "http://[::ffff:1.2.3.4%25eth0]/", "?",
)  # fmt: skip


def joined(*parts: str, most: int = 12):
    """Texts made of these and of anything."""
    return st.lists(st.one_of(st.sampled_from(parts), st.text(max_size=4)), max_size=most).map("".join)


class Refused:
    """What is raised inside is an error of this kind (and reason) that says why; nothing else is let through."""

    def __init__(self, kind: type[Exception], reason: str = "") -> None:
        self.kind, self.reason = kind, reason

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> bool:
        if not isinstance(error, self.kind):
            return False
        assert str(error)
        assert self.reason in ("", getattr(error, "reason", ""))
        return True


def cleans(body: str, media_type: str) -> None:
    with Refused(CleaningError):
        assert isinstance(clean_body(body, media_type), Cleaned)


# --- cleaners -----------------------------------------------------------------------------------------------

HTML = joined(
    *(f"<a href='{link}'>x</a>" for link in LINKS),
    *(f"<time datetime='{day}'>" for day in DATES),
    *(f"<meta property='article:published_time' content='{day}'>" for day in DATES),
    *(f"<base href='{link}'>" for link in LINKS),
    *(f"<link rel=canonical href='{link}'>" for link in LINKS),
    *("<script type='application/ld+json'>", "</script>", '{"@type":["Article",1],"headline":[],"datePublished":1}'),
    *('{"isAccessibleForFree":{}}', "[" * 200, "1" * 5000, "<table><tr><td colspan=-1 rowspan=x>a", "<td colspan=²>b"),
    *(
        "<pre>",
        "</pre>",
        "<code class='language-'>",
        "<p>Some words of a paragraph. " * 5,
        "<li>",
        "<ol>",
        "<b>",
        "</i>",
    ),
    *(
        "<svg>",
        "<!--",
        "<![CDATA[",
        "]]>",
        "<?xml",
        "&#xd800;",
        "&#0;",
        "&#x10ffff;",
        "\x00",
        "\ud800",
        "<h1>",
        "<html>",
    ),
)


@quick
@given(HTML)
def test_html(body):
    cleans(body, "text/html")
    for source in SOURCES:
        source.clean(body, "text/html")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([10**9, -(10**30), 1e308, float("inf"), float("nan"), "markdown", "code", "heading", "raw", "level"]),
)  # fmt: skip
KEYS = st.sampled_from(
    [
        "cells",
        "worksheets",
        "metadata",
        "cell_type",
        "source",
        "input",
        "level",
        "language_info",
        "kernelspec",
        "name",
        "language",
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
CELL = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["markdown", "code", "heading", "raw"]), "source": JSON, "level": JSON}
)


@quick
@given(st.one_of(JSON, st.fixed_dictionaries({"cells": st.lists(CELL, max_size=3), "metadata": JSON})))
@example({"worksheets": [{"cells": None}]})
@example({"cells": [{"cell_type": "heading", "level": 1e9, "source": "x"}]})
def test_notebooks(notebook):
    cleans(json.dumps(notebook), "application/x-ipynb+json")


@pytest.mark.parametrize("number", ["1" * 1_000_000, "1e1000000", "NaN", "-Infinity", "1e9", "-1", '"9"', "[1]"])
def test_a_heading_of_an_absurd_level_is_a_heading(number):
    cell = f'{{"cell_type": "heading", "level": {number}, "source": "Words"}}'
    cleans(f'{{"cells": [{cell}]}}', "application/x-ipynb+json")
    if len(number) < 20:
        text = clean_body(f'{{"cells": [{cell}]}}', "application/x-ipynb+json").text
        assert text.strip("#") == " Words"
        assert len(text) <= 6 + len(" Words")


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["title", "date", "published", "? ", "- ", "<<", "'", '"']),
            st.one_of(
                st.sampled_from([*DATES, *LINKS, "!!int x", "!!timestamp x", "!!bool x", "!!float", "!!binary ä", "!!set {a}", "!x y"]),
                st.sampled_from(["!!python/object:os.system", "&a 1", "*a", "&a [*a]", "0x" + "f" * 9000, ":".join("1" * 99), "[" * 99]),
                st.sampled_from(["~", "yes", "1_000", "|", ">-", "{a: b}", "[1, 2]", "!!merge x", "%TAG", "---", "..."]),
                st.text(max_size=6),
            ),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_front_matter(lines):
    matter = "\n".join(f"{key}: {value}" for key, value in lines)
    cleans(f"---\n{matter}\n---\n# Words\n", "text/markdown")


@quick
@given(
    joined("---\n", "# a", "```", "~~~", "- ", "[a](b", "\r", "\n", "\ufeff", "\x00", "\ud800", "title: x\n", "...\n")
)
def test_markdown_text_and_code(body):
    for media_type in ("text/markdown", "text/plain", "text/x-python", "application/json", "unknown"):
        cleans(body, media_type)


PDF = changed = written("A first page.", "A second page (with more).")
TOKENS = (
    b"/Kids",
    b"/Parent 2 0 R",
    b"<<",
    b">>",
    b"[",
    b"]",
    b"0 R",
    b"99999999999",
    b"-1",
    b"/Length 1000000000",
    b"1e99",
    b"endobj",
)
TOKENS = (
    *TOKENS,
    b"/Filter /FlateDecode",
    b"/Filter [/LZWDecode /LZWDecode]",
    b"/Count -5",
    b"/Type /ObjStm",
    b"(",
    b"\\",
    b"%",
    b"null",
)
TOKENS = (
    *TOKENS,
    b"/CreationDate (D:00010101000000+14'00')",
    b"/Title 7",
    b"/Encrypt 1 0 R",
    b"/Prev 0",
    b"xref",
    b"trailer",
    b"/W [1 2 3]",
)


@quick
@given(
    st.lists(st.tuples(st.integers(0, len(PDF)), st.integers(0, 30), st.sampled_from(TOKENS)), min_size=1, max_size=5)
)
def test_pdf(edits):
    data = PDF
    for place, cut, token in edits:
        data = data[:place] + token + data[place + cut :]
    cleans(base64.b64encode(data).decode(), "application/pdf")


# --- readers ------------------------------------------------------------------------------------------------


def answering(body: bytes, media_type: str = "application/xml") -> Answering:
    return Answering(lambda url: Fetched(url, 200, media_type, body.decode("utf-8", "replace"), body))


def reads(body: bytes) -> None:
    with Refused(SourceError):
        assert all(isinstance(link, str) for link in links_at(f"{PAGE}feed", answering(body), InProcess()))


XML = joined(
    *(
        "<rss>",
        "<channel>",
        "</channel></rss>",
        "<feed xmlns='http://www.w3.org/2005/Atom'>",
        "</feed>",
        "<item>",
        "</item>",
    ),
    *(
        "<entry>",
        "</entry>",
        "<urlset>",
        "</urlset>",
        "<sitemapindex>",
        "</sitemapindex>",
        "<loc>",
        "</loc>",
        "<url>",
        "</url>",
    ),
    *(f"<link>{link}</link>" for link in LINKS),
    *(f"<link href='{link}' rel='alternate'/>" for link in LINKS),
    *(f"<pubDate>{day}</pubDate>" for day in DATES),
    *(f"<updated>{day}</updated>" for day in DATES),
    *(f"<loc>{link}</loc>" for link in LINKS),
    *(
        "<!DOCTYPE a [",
        "<!ENTITY b 'c'>",
        "]>",
        "&b;",
        "<?xml version='1.0' encoding='utf-7'?>",
        "<?xml encoding='x'?>",
        "\x00",
    ),
    *(
        "<content type='xhtml'><div>",
        "<title type='html'>&lt;b",
        "<author><email>a@b",
        "<guid isPermaLink='x'>",
        "<media:content/>",
    ),
    *(
        "xml:base='http://['",
        "<itunes:duration>1:x</itunes:duration>",
        "<georss:point>x</georss:point>",
        "<cloud/>",
        "<a:b>",
    ),
)


@quick
@given(XML)
def test_feeds_and_sitemaps(body):
    reads(body.encode("utf-8", "surrogatepass"))
    with Refused(SourceError, "bad_feed"):
        for entry in feed_entries(body.encode("utf-8", "replace"), PAGE):
            medium._story({"link": PAGE, **entry})


@quick
@given(st.sampled_from(["rss", "feed", "urlset"]), st.lists(st.sampled_from(range(80)), max_size=6), XML)
def test_feeds_that_are_whole(root, picks, text):
    """Well-formed, so that it goes further than its syntax."""
    inner = [f"<link>{link}</link>" for link in LINKS] + [f"<link href='{link}'/>" for link in LINKS]
    inner += [f"<{tag}>{day}</{tag}>" for day in DATES for tag in ("pubDate", "updated", "loc")]
    items = "".join(
        f"<item>{inner[pick % len(inner)]}</item><entry>{inner[pick % len(inner)]}</entry>" for pick in picks
    )
    reads(
        f"<{root}><channel><item><title>{text.translate({ord(c): None for c in '<&'})}</title></item>{items}</channel></{root}>".encode(
            "utf-8", "replace"
        )
    )


@quick
@given(st.lists(st.tuples(st.integers(0, 80), st.binary(max_size=3)), max_size=4))
def test_packed_sitemaps(edits):
    data = gzip.compress(b"<urlset><url><loc>https://a.example/b</loc></url></urlset>", mtime=0)
    for place, new in edits:
        data = data[:place] + new + data[place + len(new) :]
    reads(data)


@quick
@given(HTML)
def test_pages(body):
    target = Target(PAGE, PAGE)
    answer = Fetched(PAGE, 200, "text/html", body, body.encode("utf-8", "replace"))
    with Refused(SourceError):
        page_and_wall(answer, target, InProcess())
    with Refused(SourceError):
        list(links_at(PAGE, Answering(lambda url: answer), InProcess()))


@pytest.fixture(scope="module")
def export_bytes():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "Shares.csv", "Date,ShareLink,ShareCommentary\r\n2024-01-01,https://linkedin.com/posts/a,Words\r\n"
        )
        archive.writestr("Articles/a b.html", "<h1>Words</h1><p>published on 2024-01-02</p>")
    return packed.getvalue()


def exported(path) -> list:
    link = linkedin.link_of(str(path), {})
    return list(linkedin.crawl(Target(link, link), fetch_context()))


@quick
@given(edits=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=3)), max_size=4))
def test_archives(edits, export_bytes, tmp_path):
    data = export_bytes
    for place, new in edits:
        data = data[:place] + new + data[place + len(new) :]
    path = tmp_path / "export.zip"
    path.write_bytes(data)
    with Refused(SourceError, "bad_archive"):
        exported(path)


@quick
@given(
    joined("Date,ShareLink,ShareCommentary", "\r\n", ",", '"', *DATES, *LINKS, "https://linkedin.com/posts/a", "\x00"),
    HTML,
)
def test_rows_and_articles_of_an_export(rows, article):
    path = {"Shares.csv": rows, "Articles.csv": f"Title,URL,Content\r\n{rows}", "Articles/x.html": article}

    class Archive:
        names = tuple(path)

        def read(self, name):
            return path[name].encode("utf-8", "surrogatepass")

    from llm_engineering.features.reading.linkedin_export import ExportError, pages

    found = []
    with Refused(ExportError):
        found.extend(pages(Archive()))


@quick
@given(
    st.one_of(
        st.sampled_from([*LINKS, *DATES]),
        st.text(max_size=40),
        joined("http://", "https://", *LINKS, "/", ":", "@", "www.", "%", "?", "[", "]"),
    )
)
def test_links_and_addresses(text):
    with Refused(SourceError, "bad_link"):
        link = canonical_link(text)
        for source in SOURCES:
            source.owns(link)
            assert source.canonical(link)
        medium.post_id(link)


@quick
@given(
    st.one_of(
        st.sampled_from(DATES),
        st.text(max_size=64),
        joined("2024", "-", ":", "+", "01", "T", "Z", "Mon, ", "Jan", " ", "99999", most=20),
    )
)
def test_dates(text):
    moment = parse_date(text)
    assert moment is None or isinstance(moment, datetime)
    assert moment is None or moment.utcoffset() == timedelta(0)


@quick
@given(JSON)
def test_the_archive_of_a_newsletter(posts):
    body = json.dumps(posts).encode()

    with Refused(SourceError, "bad_feed"):
        substack._archive_page(PAGE, fetch_context(fetch=answering(body, "application/json")))
