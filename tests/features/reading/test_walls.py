# ruff: noqa: E501  (long lines of markup)
"""A wall is recognised by what it is made of, and an article about walls is an article."""

import pytest

from llm_engineering.domain.ledger import Reason
from llm_engineering.features.reading.parsed_page import ParsedPage
from llm_engineering.features.reading.walls import wall_of

LONG = " ".join(f"Sentence number {n} of an article that says what its author thinks." for n in range(60))


def page(body: str, *, title: str = "A title", head: str = "") -> str:
    return f"<!doctype html><html><head><title>{title}</title>{head}</head><body>{body}</body></html>"


WALLS = {
    "cloudflare, now": (
        page(
            "<h1>blog.example</h1><noscript><p>Enable JavaScript and cookies to continue</p></noscript>"
            "<script>window._cf_chl_opt = {cvId: '3'}</script>",
            title="Just a moment...",
        ),
        Reason.BOT_WALL,
    ),
    "cloudflare, without its script": (
        page("<p>Verifying you are human. This may take a few seconds.</p>", title="Just a moment..."),
        Reason.BOT_WALL,
    ),
    "cloudflare, blocked": (
        page(
            "<div id='cf-wrapper'><h1>Sorry, you have been blocked</h1><div id='cf-error-details'>Ray ID 1</div></div>",
            title="Attention Required! | Cloudflare",
        ),
        Reason.BOT_WALL,
    ),
    "datadome": (
        page(
            "<p id='cmsg'>Please enable JS and disable any ad blocker</p><script src='https://ct.captcha-delivery.com/c.js'>"
        ),
        Reason.BOT_WALL,
    ),
    "perimeterx": (page("<div id='px-captcha'></div><p>Press & Hold to confirm you are a human</p>"), Reason.BOT_WALL),
    "akamai": (
        page(
            "<h1>Access Denied</h1><p>You don't have permission to access this on this server. Reference #18.1</p>"
            "<p>https://errors.edgesuite.net/18.1</p>",
            title="Access Denied",
        ),
        Reason.BOT_WALL,
    ),
    "imperva": (page("<iframe src='/_Incapsula_Resource?x=1'>Request unsuccessful.</iframe>"), Reason.BOT_WALL),
    "hcaptcha": (
        page("<form><div class='h-captcha' data-sitekey='x'></div><button>Go</button></form>"),
        Reason.BOT_WALL,
    ),
    "recaptcha": (page("<p>One more step</p><div class='g-recaptcha'></div>"), Reason.BOT_WALL),
    "google": (page("<p>Our systems have detected unusual traffic from your computer network.</p>"), Reason.BOT_WALL),
    "medium, members only": (
        page(
            "<article><h1>Story</h1><p>Member-only story</p><p>The first lines are here for all to see.</p>"
            "<p>The author made this story available to Medium members only.</p></article>",
            head='<script type="application/ld+json">{"@type":"NewsArticle","isAccessibleForFree":false}</script>'
            '<script>window.__APOLLO_STATE__={"Post:1":{"isLockedPreviewOnly":true}}</script>',
        ),
        Reason.PAYWALL,
    ),
    "substack, long preview": (
        page(
            f"<article><h1>Post</h1><p>{LONG}</p><div class='paywall' data-testid='paywall'>"
            "<h2 class='paywall-title'>This post is for paid subscribers</h2></div></article>"
        ),
        Reason.PAYWALL,
    ),
    "newspaper stub": (
        page(
            "<article><p>The first two sentences are free. The rest is not.</p></article>",
            head='<script type="application/ld+json">[{"@type":"NewsArticle","isAccessibleForFree":"False"}]</script>',
        ),
        Reason.PAYWALL,
    ),
    "stub in words": (page("<p>A teaser.</p><p>Subscribe to continue reading</p>"), Reason.PAYWALL),
    "login form": (
        page("<h1>Sign in</h1><form><input name='u'><input type='password'></form>", title="Log in | Site"),
        Reason.LOGIN,
    ),
    "login in words": (page("<p>Please log in to view this page.</p>"), Reason.LOGIN),
    "consent": (
        page(
            "<h1>Before you continue</h1><p>We use cookies and data to deliver our services. Accept all. Reject all.</p>"
        ),
        Reason.CONSENT,
    ),
    "react shell": (page("<div id='root'></div><script src='/main.js'></script>"), Reason.NEEDS_JAVASCRIPT),
    "shell in words": (
        page(
            "<noscript>You need to enable JavaScript to run this app.</noscript><div></div><script src='/m.js'></script>"
        ),
        Reason.NEEDS_JAVASCRIPT,
    ),
    "loading": (page("<div id='__next'>Loading…</div><script src='/main.js'></script>"), Reason.NEEDS_JAVASCRIPT),
    "nothing but a script": (page("<script>go()</script>"), Reason.NEEDS_JAVASCRIPT),
    "nothing at all": ("", Reason.EMPTY),
    "only a title": (page(""), Reason.EMPTY),
    "only dots": (page("<p>… — •</p>"), Reason.EMPTY),
}


@pytest.mark.parametrize("name", WALLS)
def test_a_wall_is_recognised_for_what_it_is(name):
    html, reason = WALLS[name]
    wall = wall_of(ParsedPage(html), "https://site.example/post")
    assert wall is not None
    assert wall.reason is reason
    assert wall.detail


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://www.linkedin.com/authwall?trk=1", Reason.LOGIN),
        ("https://consent.google.example/m?continue=x", Reason.CONSENT),
    ],
)
def test_where_the_redirects_ended_counts(url, reason):
    html = page("<h1>Join LinkedIn</h1><p>Agree & Join to see who you know.</p>")
    wall = wall_of(ParsedPage(html), url)
    assert wall is not None
    assert wall.reason is reason


ARTICLES = {
    "about challenges": page(
        f"<article><h1>What “Just a moment...” means</h1><p>Cloudflare says “Enable JavaScript and cookies to continue” and "
        f"“Verify you are human”. {LONG}</p></article>",
        title="Just a moment... and other challenges",
    ),
    "about challenges, with a challenge's script quoted": page(
        f"<article><p>{LONG}</p><pre>window._cf_chl_opt = {{}}; id='px-captcha' geo.captcha-delivery.com</pre></article>"
    ),
    "short, about captchas": page(
        "<article><h1>Captchas</h1><p>I was asked today to verify you are human, again. That is what the page said, and it "
        "made me laugh: a machine asks a person to prove that it is none. More on this next week, when I will have counted "
        "how often that happens on an ordinary day, on an ordinary phone, in an ordinary town by the sea.</p></article>"
    ),
    "about paywalls": page(
        f"<article><h1>This post is for paid subscribers</h1><p>Subscribe to continue reading, says the page. {LONG}</p></article>"
    ),
    "about member-only stories, free": page(
        f"<article><p>The author made this story available to Medium members only: {LONG}</p></article>",
        head='<script type="application/ld+json">{"@type":"Article","isAccessibleForFree":true}</script>',
    ),
    "not free for others, but all of it is here": page(
        f"<article><p>{LONG}</p></article>",
        head='<script type="application/ld+json">{"@type":"NewsArticle","isAccessibleForFree":false}</script>',
    ),
    "with a comment form behind a captcha": page(
        f"<article><p>{LONG[:300]}</p></article><form><textarea></textarea><div class='g-recaptcha'></div></form>"
    ),
    "with a login box": page(
        f"<article><p>{LONG}</p></article><form><input type='password'><button>Log in</button></form>"
    ),
    "with a cookie banner": page(
        f"<article><p>{LONG}</p></article><div>We value your privacy. Accept all cookies.</div>"
    ),
    "with Cloudflare's script of every page": page(
        "<p>A short note on a small page.</p><script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script>"
    ),
    "about JavaScript": page(
        "<p>You need to enable JavaScript to run this app. So say all of them, and I ask why.</p>"
    ),
    "short": page("<p>Hi.</p>"),
    "rendered by the server": page(f"<div id='root'><p>{LONG}</p></div><script src='/m.js'></script>"),
    "without markup": "Just words.",
}


@pytest.mark.parametrize("name", ARTICLES)
def test_an_article_passes_whatever_it_is_about(name):
    assert wall_of(ParsedPage(ARTICLES[name]), "https://blog.example/p/login-pages-i-have-known") is None


def test_what_may_go_away_is_worth_another_try():
    walls = [wall_of(ParsedPage(WALLS[name][0])) for name in ("perimeterx", "newspaper stub")]
    assert [wall and wall.retry for wall in walls] == [True, False]
