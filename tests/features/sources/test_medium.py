"""Medium's ladder: feed, page, browser, and a reason for each rung when all fail."""

from datetime import UTC, datetime

import pytest

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.source import Target
from llm_engineering.features.sources.medium import SOURCE, canonical, discover, feed_of, post_id

STORY = "https://medium.com/@ann/the-story-abc123def456"
FEED = "https://medium.com/feed/@ann"
TEXT = "<p>" + "The whole story is in the feed, with all of its words. " * 40 + "</p><pre>x = 1\n  y = 2</pre>"
PAGE = f"<html><head><title>The story</title></head><body><article><h1>The story</h1>{TEXT}</article></body></html>"
WALL = "<title>Just a moment...</title><script>window._cf_chl_opt={}</script>"


def feed(*items: tuple[str, str]) -> str:
    inner = "".join(
        f"<item><title>Title &amp; {n}</title><link>{link}?source=rss-1------2</link>"
        f"<pubDate>Mon, 06 May 2024 07:08:09 GMT</pubDate><content:encoded><![CDATA[{html}]]></content:encoded></item>"
        for n, (link, html) in enumerate(items)
    )
    space = 'xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    return f'<?xml version="1.0"?><rss version="2.0" {space}><channel>{inner}</channel></rss>'


def crawl(context, url: str = STORY):
    [page] = SOURCE.crawl(Target(link=canonical(url), url=url), context)
    return page


@pytest.mark.parametrize(
    ("link", "folded"),
    [
        (STORY, "https://medium.com/p/abc123def456"),
        ("https://ann.medium.com/the-story-abc123def456", "https://medium.com/p/abc123def456"),
        ("https://medium.com/p/abc123def456", "https://medium.com/p/abc123def456"),
        ("https://medium.com/some-publication/other-title-abc123def456", "https://medium.com/p/abc123def456"),
        ("https://medium.com/@ann", "https://medium.com/@ann"),
        ("https://medium.com/@ann/about", "https://medium.com/@ann/about"),
        ("https://blog.example/the-story-abc123def456", "https://blog.example/the-story-abc123def456"),
    ],
)
def test_all_spellings_of_a_story_are_one(link, folded):
    assert canonical(link) == folded
    assert canonical(folded) == folded


@pytest.mark.parametrize(
    ("address", "rss"),
    [
        ("@ann", FEED),
        ("https://medium.com/@ann", FEED),
        (STORY, FEED),
        ("towards-data", "https://medium.com/feed/towards-data"),
        ("https://ann.medium.com/", "https://ann.medium.com/feed"),
        ("blog.example.com", "https://blog.example.com/feed"),
        (FEED, FEED),
    ],
)
def test_every_kind_of_address_has_its_feed(address, rss):
    assert feed_of(address) == rss


def test_it_owns_medium_and_no_look_alike():
    assert SOURCE.owns(STORY)
    assert SOURCE.owns("https://ann.medium.com/x")
    assert not SOURCE.owns("https://medium.com.evil.example/x")
    assert not SOURCE.owns("https://notmedium.com/x")


def test_a_handle_becomes_its_latest_stories(web, context):
    web.put(FEED, feed((STORY, TEXT), ("https://medium.com/@ann/other-abc123def457", TEXT)), "text/xml")
    assert list(discover("@ann", context)) == [STORY, "https://medium.com/@ann/other-abc123def457"]


def test_a_named_story_is_itself(web, context):
    assert list(discover(STORY, context)) == [STORY]
    assert web.asked == []


def test_a_handle_without_stories_says_so(web, context):
    web.put(FEED, feed(), "text/xml")
    with pytest.raises(SourceError) as caught:
        list(discover("@ann", context))
    assert caught.value.reason is Reason.EMPTY


def test_the_first_rung_is_the_feed_and_it_has_everything(web, context):
    web.put(FEED, feed((STORY, TEXT)), "text/xml")
    page = crawl(context)
    assert page.url == STORY
    assert page.title == "Title & 0"
    assert page.published_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert page.meta == {"rung": "feed"}
    assert web.asked == [FEED]
    cleaned = SOURCE.clean(page.body, page.media_type)
    assert "The whole story is in the feed" in cleaned.text
    assert "```\nx = 1\n  y = 2\n```" in cleaned.text


def test_the_feed_is_asked_once_for_all_stories_even_when_it_fails(web, context):
    web.put(STORY, PAGE)
    other = "https://medium.com/@ann/other-abc123def457"
    web.put(other, PAGE)
    web.fail(FEED, Reason.TIMEOUT, "slow", retry=True)
    crawl(context)
    crawl(context, other)
    assert web.asked == [FEED, STORY, other]


@pytest.mark.parametrize(
    "held",
    [
        feed(("https://medium.com/@ann/newer-abc123def458", TEXT)),
        feed((STORY, '<p class="medium-feed-snippet">Only the beginning</p><p>Continue reading on Medium »</p>')),
        feed((STORY, "<p>Short</p>")),
    ],
    ids=["no longer listed", "member-only snippet", "teaser"],
)
def test_the_second_rung_is_the_page(web, context, held):
    web.put(FEED, held, "text/xml")
    web.put(STORY, PAGE, etag='"1"')
    page = crawl(context)
    assert page.body == PAGE
    assert page.etag == '"1"'


def test_the_third_rung_is_the_browser(web, context, rendered):
    web.put(FEED, feed(), "text/xml")
    web.put(STORY, WALL)
    rendered.put(STORY, PAGE)
    assert crawl(context).meta["rung"] == "browser"


def test_a_page_the_server_refuses_is_tried_in_the_browser(web, context, rendered):
    web.fail(STORY, Reason.HTTP_ERROR, "HTTP 403")
    rendered.put(STORY, PAGE)
    assert crawl(context).body == PAGE


def test_when_all_rungs_fail_each_gives_its_reason(web, context_without_browser):
    web.fail(FEED, Reason.RATE_LIMITED, "HTTP 429", retry=True)
    web.put(STORY, WALL)
    with pytest.raises(SourceError) as caught:
        crawl(context_without_browser)
    error = caught.value
    assert (error.link, error.reason) == ("https://medium.com/p/abc123def456", Reason.BOT_WALL)
    assert "feed: HTTP 429; page: a Cloudflare challenge" in error.detail
    assert "browser: no Chromium found" in error.detail


def test_what_only_members_may_read_is_given_up_at_once(web, context, rendered):
    web.put(FEED, feed((STORY, "<p>Continue reading on Medium</p>")), "text/xml")
    web.put(
        STORY,
        '<article><p>Member-only story</p><p>Beginning.</p></article><script>{"isLockedPreviewOnly":true}</script>',
    )
    with pytest.raises(SourceError) as caught:
        crawl(context)
    assert (caught.value.reason, caught.value.retry) == (Reason.PAYWALL, False)
    assert rendered.asked == []


def test_a_story_that_was_removed_is_not_looked_for_in_the_browser(web, context, rendered):
    with pytest.raises(SourceError) as caught:
        crawl(context)
    assert caught.value.reason is Reason.NOT_FOUND
    assert rendered.asked == []


def test_a_link_that_names_no_author_starts_with_the_page(web, context):
    link = "https://medium.com/p/abc123def456"
    web.put(link, PAGE)
    assert crawl(context, link).body == PAGE
    assert web.asked == [link]


def test_a_story_on_a_domain_of_its_own_is_found_in_that_domains_feed(web, context):
    link = "https://blog.example.com/the-story-abc123def456"
    web.put("https://blog.example.com/feed", feed((link, TEXT)), "text/xml")
    assert crawl(context, link).meta == {"rung": "feed"}


def test_ids_are_hex_and_long_enough():
    assert post_id(STORY) == "abc123def456"
    assert post_id("https://medium.com/@ann/a-story-about-cafe") == ""
    assert post_id("https://medium.com/@ann/story-12345678") == ""
