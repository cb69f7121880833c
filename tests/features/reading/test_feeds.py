# ruff: noqa: E501  (long lines of markup)
"""Feeds, sitemaps and archive pages become links."""

import gzip

import pytest

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.features.reading import feeds
from llm_engineering.features.reading.feeds import links_at
from llm_engineering.infrastructure.sandbox import InProcess

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>B</title>
<item><title>One</title><link>https://b.example/p/one</link></item>
<item><title>Two</title><link>https://b.example/p/two</link></item>
<item><title>Again</title><link>https://b.example/p/one</link></item>
<item><title>No link</title></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>B</title>
<entry><title>One</title><link rel="alternate" href="/p/one"/></entry></feed>"""


def sitemap(*links: str) -> str:
    inner = "".join(f"<url><loc> {link} </loc></url>" for link in links)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inner}</urlset>'


def index(*links: str) -> str:
    inner = "".join(f"<sitemap><loc>{link}</loc></sitemap>" for link in links)
    return f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inner}</sitemapindex>'


def test_an_rss_feed_gives_each_link_once_in_its_order(web):
    web.put("https://b.example/feed", RSS, "application/rss+xml")
    assert list(links_at("https://b.example/feed", web, InProcess())) == [
        "https://b.example/p/one",
        "https://b.example/p/two",
    ]


def test_an_atom_feed_with_relative_links_is_read_whatever_its_media_type(web):
    for media_type in ("text/plain", "text/html", "application/octet-stream"):
        web.put("https://b.example/atom", ATOM, media_type)
        assert list(links_at("https://b.example/atom", web, InProcess())) == ["https://b.example/p/one"]


def test_a_sitemap_gives_its_pages_and_not_its_pictures(web):
    picture = (
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" '
        'xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"><url><loc>https://b.example/a</loc>'
        "<image:image><image:loc>https://b.example/a.png</image:loc></image:image></url></urlset>"
    )
    web.put("https://b.example/s.xml", picture, "application/xml")
    assert list(links_at("https://b.example/s.xml", web, InProcess())) == ["https://b.example/a"]


def test_a_sitemap_index_is_followed_on_its_own_site_only_and_unpacked(web):
    web.put(
        "https://b.example/s.xml",
        index("https://b.example/1.xml", "https://www.b.example/2.xml.gz", "https://evil.example/3.xml"),
        "application/xml",
    )
    web.put("https://b.example/1.xml", sitemap("https://b.example/a"), "text/xml")
    web.put(
        "https://www.b.example/2.xml.gz", gzip.compress(sitemap("https://b.example/b").encode()), "application/gzip"
    )
    assert list(links_at("https://b.example/s.xml", web, InProcess())) == ["https://b.example/a", "https://b.example/b"]
    assert "https://evil.example/3.xml" not in web.asked


def test_an_index_that_names_itself_ends(web):
    web.put("https://b.example/s.xml", index("https://b.example/s.xml", "https://b.example/1.xml"), "application/xml")
    web.put("https://b.example/1.xml", sitemap("https://b.example/a"), "text/xml")
    assert list(links_at("https://b.example/s.xml", web, InProcess())) == ["https://b.example/a"]


def test_indexes_within_indexes_end_at_some_depth(web):
    for n in range(6):
        web.put(f"https://b.example/{n}.xml", index(f"https://b.example/{n + 1}.xml"), "application/xml")
    with pytest.raises(SourceError) as caught:
        list(links_at("https://b.example/0.xml", web, InProcess()))
    assert caught.value.reason is Reason.EMPTY
    assert len(web.asked) == feeds.MAX_DEPTH


def test_a_page_that_names_its_feed_gives_the_feeds_links_first(web):
    web.put(
        "https://b.example/",
        '<link rel="alternate" type="application/rss+xml" title="Comments" href="/comments">'
        '<link rel="alternate" type="application/rss+xml" href="/feed"><a href="/p/old-one">Old</a>',
    )
    web.put("https://b.example/feed", RSS, "application/xml")
    found = list(links_at("https://b.example/", web, InProcess()))
    assert found == ["https://b.example/p/one", "https://b.example/p/two", "https://b.example/p/old-one"]


def test_an_archive_page_gives_the_articles_of_its_own_host(web):
    web.put(
        "https://b.example/archive",
        '<base href="https://b.example/"><nav><a href="/posts/in-the-menu">x</a></nav>'
        '<a href="2024/05/first">a</a> <a href="/my-second-post#c">b</a> <a href="/blog/third">c</a> <a href="/4.html">d</a>'
        '<a href="/tag/some-long-tag">t</a> <a href="/about">u</a> <a href="/">v</a> <a href="https://other.example/posts/z">w</a>'
        '<a href="/posts/photo.jpg">p</a> <a href="mailto:a@b.example">m</a> <a href="http://[bad">n</a> <a>o</a>'
        '<a href="/blog/third">again</a>',
    )
    assert list(links_at("https://b.example/archive", web, InProcess())) == [
        "https://b.example/2024/05/first",
        "https://b.example/my-second-post",
        "https://b.example/blog/third",
        "https://b.example/4.html",
    ]


def test_a_page_without_articles_says_so(web):
    web.put("https://b.example/", "<p>Nothing here.</p>")
    with pytest.raises(SourceError) as caught:
        list(links_at("https://b.example/", web, InProcess()))
    assert caught.value.reason is Reason.EMPTY
    web.put("https://b.example/", "")
    with pytest.raises(SourceError):
        list(links_at("https://b.example/", web, InProcess()))


def test_never_more_links_than_the_limit(web, monkeypatch):
    monkeypatch.setattr(feeds, "MAX_LINKS", 3)
    web.put("https://b.example/s.xml", sitemap(*(f"https://b.example/{n}" for n in range(9))), "application/xml")
    assert len(list(links_at("https://b.example/s.xml", web, InProcess()))) == 3


def test_one_failing_child_of_an_index_does_not_end_the_others_and_is_named(web):
    children = [f"https://b.example/{name}.xml" for name in ("gone", "1", "broken", "[", "2", "bomb")]
    web.put("https://b.example/s.xml", index(*children, "http://[", "https://b.example:x/3.xml"), "application/xml")
    web.put("https://b.example/1.xml", sitemap("https://b.example/a", "http://["), "text/xml")
    web.put("https://b.example/broken.xml", "<urlset><url>", "text/xml")
    web.put("https://b.example/2.xml", sitemap("https://b.example/b"), "text/xml")
    web.put("https://b.example/bomb.xml", '<!DOCTYPE a [<!ENTITY b "c">]><urlset><loc>&b;</loc></urlset>', "text/xml")
    found = []
    with pytest.raises(
        SourceError, match=r"5 of its sitemaps cannot be read, such as https://b\.example/gone\.xml"
    ) as caught:
        found.extend(links_at("https://b.example/s.xml", web, InProcess()))
    assert caught.value.link == "https://b.example/s.xml"
    assert found == ["https://b.example/a", "http://[", "https://b.example/b"]


def test_a_page_whose_base_or_feed_is_no_address_still_gives_its_articles(web):
    feed = '<link rel="alternate" type="application/rss+xml" href="http://[">'
    web.put("https://b.example/", f'<base href="http://[">{feed}<a href="/blog/one">a</a><a href="http://[">b</a>')
    assert list(links_at("https://b.example/", web, InProcess())) == ["https://b.example/blog/one"]


@pytest.mark.parametrize(
    "before",
    ["<?xml version='1.0'?>", "\ufeff", "<!-- <rss> -->\n", "<!DOCTYPE rss>", '<!DOCTYPE a PUBLIC "b" "c">\n',
     "<?xml version='1.0'?><?a b?><!-- c --><!DOCTYPE rss [ <!ELEMENT a ANY> ]>  "],
)  # fmt: skip
def test_a_feed_is_known_by_its_root_whatever_stands_before(web, before):
    web.put("https://b.example/feed", before + RSS.partition("?>")[2].strip(), "text/plain")
    assert list(links_at("https://b.example/feed", web, InProcess())) == [
        "https://b.example/p/one",
        "https://b.example/p/two",
    ]
