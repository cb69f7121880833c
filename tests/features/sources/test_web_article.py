"""Any web page: read, judged, and rendered when it must be."""

import base64
from datetime import UTC, datetime

import pytest

from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.source import Target
from llm_engineering.features.sources import web_article

URL = "https://b.example/post"
ARTICLE = (
    '<html><head><title>Title</title><meta property="article:published_time" content="2024-05-06T07:00:00Z">'
    '<link rel="canonical" href="https://b.example/elsewhere"></head><body><article><p>Words enough to read, and then '
    "some more of them, so that nobody can take this for a wall.</p></article></body></html>"
)
SHELL = "<html><body><div id='root'></div><script src='/m.js'></script></body></html>"
WALL = "<title>Just a moment...</title><script>window._cf_chl_opt={}</script>"


def crawl(context, **validators):
    [page] = web_article.crawl(Target(link=URL, url=URL + "?utm_source=x", **validators), context)
    return page


def refused(context) -> SourceError:
    with pytest.raises(SourceError) as caught:
        crawl(context)
    assert caught.value.link == URL
    return caught.value


@pytest.fixture
def put(web):
    return lambda body, media_type="text/html", **kw: web.put(URL + "?utm_source=x", body, media_type, **kw)


def test_the_raw_page_is_kept_with_what_it_says_about_itself(context, put):
    put(ARTICLE, at="https://b.example/final", etag='"1"', last_modified="yesterday")
    page = crawl(context)
    assert page.body == ARTICLE
    assert page.url == "https://b.example/final"
    assert page.title == "Title"
    assert page.published_at == datetime(2024, 5, 6, 7, tzinfo=UTC)
    assert (page.etag, page.last_modified) == ('"1"', "yesterday")


def test_the_link_stays_the_identity_whatever_the_page_calls_canonical(context, put):
    put(ARTICLE)
    page = crawl(context)
    assert page.link is None
    assert page.meta == {"canonical": "https://b.example/elsewhere"}


def test_an_unchanged_page_is_not_read_again(context, put):
    put(ARTICLE, etag='"1"')
    with pytest.raises(NotModified):
        crawl(context, etag='"1"')


@pytest.mark.parametrize("media_type", ["application/pdf", "text/html"])
def test_a_pdf_is_kept_as_it_is_even_when_the_server_calls_it_something_else(context, put, media_type):
    put(b"%PDF-1.4 \xff\x00", media_type)
    page = crawl(context)
    assert (page.media_type, page.encoding) == ("application/pdf", "base64")
    assert base64.b64decode(page.body) == b"%PDF-1.4 \xff\x00"


def test_markdown_is_kept_as_it_is(context, put):
    put("# Hi\n", "text/markdown")
    assert (crawl(context).body, crawl(context).media_type) == ("# Hi\n", "text/markdown")
    put(" \n", "text/markdown")
    assert refused(context).reason is Reason.EMPTY


def test_a_page_that_needs_scripts_is_read_in_the_browser_and_keeps_no_validators(context, put, rendered):
    put(SHELL, etag='"shell"')
    rendered.put(URL + "?utm_source=x", ARTICLE, etag='"x"')
    page = crawl(context)
    assert page.body == ARTICLE
    assert page.etag is None
    assert page.meta["rung"] == "browser"


def test_a_page_that_is_empty_in_the_browser_too_is_refused(context, put, rendered):
    put(SHELL)
    rendered.put(URL + "?utm_source=x", SHELL)
    error = refused(context)
    assert error.reason is Reason.NEEDS_JAVASCRIPT
    assert "in the browser too" in error.detail


def test_without_a_browser_the_page_needs_javascript(context_without_browser, put):
    put(SHELL)
    error = refused(context_without_browser)
    assert error.reason is Reason.NEEDS_JAVASCRIPT
    assert "no Chromium found" in error.detail
    assert not error.retry


def test_a_wall_is_not_tried_in_the_browser_and_never_stored(context, put, rendered):
    put(WALL)
    error = refused(context)
    assert (error.reason, error.retry) == (Reason.BOT_WALL, True)
    assert rendered.asked == []


def test_discovery_reads_what_stands_at_the_address(web, context):
    web.put(
        "https://b.example/feed",
        '<rss version="2.0"><channel><item><link>https://b.example/a</link></item></channel></rss>',
        "application/rss+xml",
    )
    assert list(web_article.discover("https://b.example/feed", context)) == ["https://b.example/a"]


@pytest.mark.parametrize(
    ("link", "owned"), [("https://x.example/", True), ("http://x.example/", True), ("file:///a", False)]
)
def test_every_web_link_is_its_own(link, owned):
    assert web_article.SOURCE.owns(link) is owned
