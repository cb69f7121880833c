"""Section E, for pages, feeds and sitemaps: what broken, empty, hostile and enormous ones get. Over a real fetcher."""

import gzip

import pytest
from fetch_context import fetch_context, no_browser

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.reading import feeds
from llm_engineering.features.reading.feeds import links_at
from llm_engineering.features.source import Target
from llm_engineering.features.sources import web_article
from llm_engineering.infrastructure.sandbox import InProcess

LEVELS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">\n' for n in range(1, 10))
LAUGHS = (
    f'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY e0 "ha">\n{LEVELS}]>'
    '<rss version="2.0"><channel><item><title>&e9;</title><link>https://b.example/p/x</link></item></channel></rss>'
)
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>&x;</loc></url></urlset>'
)


@pytest.fixture
def context(new_fetcher):
    return fetch_context(fetch=new_fetcher(), browser=no_browser)


def refused(site, context, path: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        list(web_article.crawl(Target(link=site.url(path), url=site.url(path)), context))
    assert caught.value.link == site.url(path)
    return caught.value


@pytest.mark.parametrize(
    ("body", "reason", "retry"),
    [
        ("", Reason.EMPTY, True),
        ("<html><body> \n </body></html>", Reason.EMPTY, True),
        ("<div id='root'></div><script src='m.js'></script>", Reason.NEEDS_JAVASCRIPT, False),
        ("<title>Just a moment...</title><script>window._cf_chl_opt={}</script>", Reason.BOT_WALL, True),
    ],
)
def test_a_page_that_is_none_is_refused_with_its_reason(site, context, body, reason, retry):
    site.page("/p", body)
    error = refused(site, context, "/p")
    assert (error.reason, error.retry) == (reason, retry)
    assert error.detail


def test_a_shell_without_a_browser_says_both(site, context):
    site.page("/p", "<div id='root'></div><script src='m.js'></script>")
    assert "no Chromium found" in refused(site, context, "/p").detail


def test_binary_sent_as_a_page_is_refused(site, context):
    site.page("/p", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 50)
    assert refused(site, context, "/p").reason in (Reason.WRONG_TYPE, Reason.BAD_ENCODING)


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (
            "/feed",
            '<?xml version="1.0"?>\n<rss version="2.0"><channel>\n<item><title>a & b</title></item>',
            "line 3, column",
        ),
        ("/feed", '<rss version="2.0"><channel><item>', "line 1, column"),
        ("/s.xml", "<urlset>\n<url><loc>https://b.example/a</loc></url>\n", "line 3, column"),
        ("/x.xml", "<catalog><cd/></catalog>", "its root is <catalog>"),
        ("/x.xml", "no xml at all", "line 1"),
        ("/x.xml", '<?xml version="1.0" encoding="klingon"?><rss></rss>', "XML"),
    ],
)
def test_a_malformed_feed_or_sitemap_says_where(site, context, path, body, where):
    site.page(path, body, media="application/xml")
    with pytest.raises(SourceError) as caught:
        list(links_at(site.url(path), context.fetch, InProcess()))
    assert caught.value.reason is Reason.BAD_FEED
    assert where in caught.value.detail
    assert not caught.value.retry


@pytest.mark.parametrize("bomb", [LAUGHS, EXTERNAL])
@pytest.mark.parametrize("media", ["application/rss+xml", "text/html"])
def test_xml_entities_are_refused_and_never_expanded(site, context, bomb, media):
    site.page("/feed", bomb, media=media)
    with pytest.raises(SourceError) as caught:
        list(links_at(site.url("/feed"), context.fetch, InProcess()))
    assert caught.value.reason is Reason.BAD_FEED
    assert "entities" in caught.value.detail


def test_a_sitemap_that_unpacks_to_too_much_is_refused(site, context, monkeypatch):
    monkeypatch.setattr(feeds, "MAX_UNPACKED", 10_000)
    site.page("/s.xml.gz", gzip.compress(b"<urlset>" + b" " * 1_000_000 + b"</urlset>"), media="application/gzip")
    with pytest.raises(SourceError) as caught:
        list(links_at(site.url("/s.xml.gz"), context.fetch, InProcess()))
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_broken_gzip_sitemap_says_so(site, context):
    site.page("/s.xml.gz", b"\x1f\x8b" + b"garbage" * 9, media="application/gzip")
    with pytest.raises(SourceError, match="broken gzip"):
        list(links_at(site.url("/s.xml.gz"), context.fetch, InProcess()))


NESTED = {
    "div": ("<div>" * 10_000 + "<p>Words at the bottom of it all.</p>", "Words at the bottom of it all."),
    "span": ("<p>" + "<span>" * 10_000 + "Words at the bottom of it all.", "Words at the bottom of it all."),
    "list": ("<p>Before the list.</p>" + "<ul><li>x" * 10_000, "Before the list."),
    "quote": ("<p>Before the quote.</p>" + "<blockquote>q " * 10_000, "Before the quote."),
    "table": ("<p>Before the table.</p>" + "<table><tr><td>c " * 2_000, "c"),
    "table, not over the parser's limit": ("<p>Before.</p>" + "<table><tr><td>c " * 300, "c"),
    "bold": ("<p>" + "<b>" * 10_000 + "Words", "Words"),
    "pre": ("<p>Before the code.</p><pre>" + "<span>" * 1_500 + "x = 1" + "</span>" * 1_500 + "</pre>", "x = 1"),
}


@pytest.mark.parametrize("what", NESTED)
def test_elements_nested_without_end_keep_their_words(what):
    html, words = NESTED[what]
    assert words in clean_body(f"<html><body><article>{html}</article></body></html>", "text/html").text


@pytest.mark.parametrize(
    "body",
    [
        "<p>" + "word and more words. " * 250_000,
        "<" * 5_000_000,
        "<p>" + "a" * 5_000_000,
        "&" * 5_000_000,
        "`" * 5_000_000,
    ],
    ids=["words", "brackets", "one word", "ampersands", "backticks"],
)
def test_a_line_of_five_megabytes_is_cleaned(body):
    assert len(clean_body(body, "text/html").text) > 1_000_000


def test_nul_bytes_and_lone_surrogates_reach_nobody(site, context):
    site.page(
        "/p",
        b"<p>NUL\0 bytes and \xed\xa0\x80 half a character in an otherwise ordinary sentence, it seems.</p>"
        + b" " * 2000,
    )
    [page] = web_article.crawl(Target(link=site.url("/p"), url=site.url("/p")), context)
    text = clean_body(page.body, page.media_type).text
    text.encode()
    assert "\0" not in text
    assert text.startswith("NUL bytes and ")


@pytest.mark.parametrize(
    "broken",
    ["<p", "<!--", "<![CDATA[", "<?php", "</", "<p></div></p></html><p>after", "<table><p>", "\ufeff", "<a href="],
)
def test_broken_markup_never_raises(broken):
    clean_body(broken, "text/html")
    assert "Words before it." in clean_body(f"<p>Words before it.</p>{broken}", "text/html").text
