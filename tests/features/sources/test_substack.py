# ruff: noqa: E501  (long lines of markup)
"""Substack newsletters."""

import json

import pytest

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.source import Target
from llm_engineering.features.sources.substack import SOURCE, canonical, crawl, discover, site_of

ANN = "https://ann.substack.com"


def archive(offset: int, site: str = ANN) -> str:
    return f"{site}/api/v1/archive?sort=new&search=&offset={offset}&limit=50"


def posts(*names: str) -> str:
    return json.dumps([{"canonical_url": f"{ANN}/p/{name}"} for name in names])


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("ann", ANN),
        ("@ann", ANN),
        (" ann.substack.com/ ", ANN),
        ("https://ann.substack.com", ANN),
        ("news.example.com", "https://news.example.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_a_newsletter_may_be_named_in_any_way(address, site):
    assert site_of(address) == site


@pytest.mark.parametrize(
    ("link", "folded"),
    [
        (f"{ANN}/p/slug/comments", f"{ANN}/p/slug"),
        (f"{ANN}/p/slug/comment/123", f"{ANN}/p/slug"),
        (f"{ANN}/p/slug", f"{ANN}/p/slug"),
        (f"{ANN}/p/slug-comments", f"{ANN}/p/slug-comments"),
        (f"{ANN}/about", f"{ANN}/about"),
    ],
)
def test_the_comments_of_a_post_are_the_post(link, folded):
    assert canonical(link) == folded


@pytest.mark.parametrize(
    ("link", "owned"),
    [(f"{ANN}/p/x", True), ("https://substack.com/@ann", True), ("https://substack.com.evil.example/p/x", False)],
)
def test_it_owns_substack_and_no_look_alike(link, owned):
    assert SOURCE.owns(link) is owned


def test_the_archive_is_paged_to_its_end(web, context):
    web.put(archive(0), posts("c", "b"), "application/json")
    web.put(archive(50), posts("b", "a"), "application/json")
    web.put(archive(100), "[]", "application/json")
    assert list(discover("ann", context)) == [f"{ANN}/p/c", f"{ANN}/p/b", f"{ANN}/p/a"]


def test_an_archive_that_repeats_itself_ends(web, context):
    web.put(archive(0), posts("a"), "application/json")
    web.put(archive(50), posts("a"), "application/json")
    assert list(discover("ann", context)) == [f"{ANN}/p/a"]
    assert len(web.asked) == 2


@pytest.mark.parametrize("broken", ["{", '{"error": 1}', "[" * 100_000])
def test_without_an_archive_the_feed_is_read(web, context, broken):
    web.put(archive(0), broken, "application/json")
    web.put(
        f"{ANN}/feed",
        f'<rss version="2.0"><channel><item><link>{ANN}/p/f</link></item></channel></rss>',
        "application/xml",
    )
    assert list(discover("ann", context)) == [f"{ANN}/p/f"]


def test_without_a_feed_the_sitemap_is_read(web, context):
    web.put(
        f"{ANN}/sitemap.xml",
        f"<urlset><url><loc>{ANN}/about</loc></url><url><loc>{ANN}/p/s</loc></url></urlset>",
        "application/xml",
    )
    assert list(discover("ann", context)) == [f"{ANN}/p/s"]


def test_without_any_of_them_every_reason_is_given(web, context):
    web.fail(f"{ANN}/feed", Reason.TIMEOUT, "no answer in 20 s", retry=True)
    with pytest.raises(SourceError) as caught:
        list(discover("ann", context))
    assert caught.value.link == ANN
    assert caught.value.retry
    for part in ("api/v1/archive", "/feed: no answer in 20 s", "sitemap.xml: HTTP 404"):
        assert part in caught.value.detail


def test_a_newsletter_without_posts_says_so(web, context):
    web.put(archive(0), "[]", "application/json")
    with pytest.raises(SourceError):
        list(discover("ann", context))


def test_a_failure_in_the_middle_of_the_archive_is_no_end_of_it(web, context):
    web.put(archive(0), posts("a"), "application/json")
    found = discover("ann", context)
    assert next(found) == f"{ANN}/p/a"
    with pytest.raises(SourceError, match="404"):
        next(found)


def test_a_named_post_is_itself(web, context):
    assert list(discover("https://news.example.com/p/one", context)) == ["https://news.example.com/p/one"]
    assert web.asked == []


POST = """<html><head><title>Post</title></head><body><article><h1 class="post-title">Post</h1>
<div class="available-content"><div class="body markup"><p>The first paragraph of the newsletter says what it is about, and
takes its time to do so.</p><div class="subscription-widget-wrap"><p>Thanks for reading! Subscribe for free.</p></div>
<p>The second paragraph follows the widget that nobody asked for.</p>
<p class="button-wrapper"><a href="https://ann.substack.com/subscribe">Subscribe now</a></p></div></div></article></body></html>"""


def test_a_post_is_read_and_its_widgets_are_not_its_text(web, context):
    web.put(f"{ANN}/p/x", POST)
    [page] = crawl(Target(link=f"{ANN}/p/x", url=f"{ANN}/p/x"), context)
    text = SOURCE.clean(page.body, page.media_type).text
    assert "The first paragraph" in text
    assert "The second paragraph" in text
    assert "ubscribe" not in text


def test_a_post_for_paying_subscribers_is_not_stored(web, context):
    web.put(
        f"{ANN}/p/x",
        POST.replace("</article>", '<div data-testid="paywall"><h2>This post is for paid subscribers</h2></div>'),
    )
    with pytest.raises(SourceError) as caught:
        list(SOURCE.crawl(Target(link=f"{ANN}/p/x", url=f"{ANN}/p/x"), context))
    assert (caught.value.reason, caught.value.retry) == (Reason.PAYWALL, False)
