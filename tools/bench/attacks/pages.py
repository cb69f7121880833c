"""HTML pages."""

import json
from collections.abc import Callable
from random import Random

from tools.bench.attacks.item import MEGABYTE, PROSE, Item, page_of


def _html(name: str, body: Callable[[], str], head: Callable[[], str] = str) -> Item:
    return Item(name=name, kind="page", make=lambda: page_of(name, body(), head()))


def _json_ld(name: str, text: Callable[[], str]) -> Item:
    return _html(f"json-ld-{name}", str, lambda: f'<script type="application/ld+json">{text()}</script>')


PAGES = (
    _html("divs", lambda: "<div>" * 100_000 + "x"),
    _html("divs-and-scripts", lambda: "<div>" * 3_000 + "<script>x" * 50_000),
    _html("divs-and-style-openers", lambda: "<div>" * 3_000 + "<style " * 60_000),
    _html("bold", lambda: "<b>" * 50_000 + "x"),
    _html("bold-and-italics-crossed", lambda: "<p>" + "<b><i>x</b>" * 30_000),
    _html("colspan", lambda: "<table><tr><td colspan=1000000000>a<td rowspan=999999999>b</tr>" + "<tr><td>c" * 50),
    _html(
        "colspans", lambda: "<table>" + ("<tr>" + "<td colspan=1000 rowspan=1000>a" * 20 + "</tr>") * 50 + "</table>"
    ),
    _html("code-blocks", lambda: "<pre>x = 1\n</pre>" * 20_000),
    _html("code-block-of-spans", lambda: "<pre>" + "<span>x</span>\n" * 100_000 + "</pre>"),
    _html("attributes", lambda: f"<p {' '.join(f'a{n}=1' for n in range(100_000))}>x</p>"),
    _html("attribute-of-2-megabytes", lambda: f"<p title='{'a' * 2 * MEGABYTE}'>x</p>"),
    _html("links", lambda: "".join(f"<a href=/p/{n}>{n}</a>" for n in range(80_000))),
    _html(
        "link-that-is-none",
        lambda: "<a href='http://['>x</a><a href='//[::1'>y</a><img src='http://]'>",
        lambda: "<base href='http://['><link rel=canonical href='http://[::1'>",
    ),
    _html("options", lambda: "<select>" + "<option>x" * 200_000),
    _html("tables-nested", lambda: "<table><tr><td>c " * 2_000),
    _html("lists-nested", lambda: "<ul><li>x" * 20_000),
    _html("definition-lists", lambda: "<dl><dt>x<dd>" * 10_000),
    _html("drawings", lambda: "<svg><g>" * 20_000 + "<math><mi>" * 20_000),
    _html("openers", lambda: "<a " * 600_000),
    _html("less-than", lambda: "<" * 2 * MEGABYTE),
    _html("ampersands", lambda: "&" * 2 * MEGABYTE),
    _html("entities", lambda: "&#x1F600;&#99999999999;&amp" * 60_000),
    _html("comments-unclosed", lambda: "<!--" * 500_000),
    _html("headings", lambda: "<h2>x</h2>" * 100_000),
    _html("formats-nested", lambda: "<p>" + "<em><code><strong>" * 3_000 + "x"),
    _html(
        "absurd-dates",
        lambda: "<time datetime='+99999-12-31T00:00:00Z'>x</time>",
        lambda: (
            "<meta name=date content='0001-01-01T00:00:00+23:59'><meta property='article:published_time' "
            "content='9999-12-31T23:59:59-23:59'>"
        ),
    ),
    _html("title-of-escapes", str, lambda: "<meta property=og:title content='\x1b]8;;http://x\x1b\\ \x9b2J \u202e'>"),
    _json_ld("of-objects", lambda: "[" + "{}," * 350_000 + "{}]"),
    _json_ld("deep", lambda: "[" * 100_000),
    _json_ld("digits", lambda: '{"@type": "Article", "position": ' + "9" * 50_000 + "}"),
    _json_ld("of-types", lambda: json.dumps({"@type": ["Article"] * 50_000, "headline": " x" * 300_000})),
    Item(
        name="charset-of-60-kilobytes",
        kind="page",
        make=lambda: f"<p>{PROSE}".encode() * 3,
        media_type="text/html; charset=" + "x" * 60_000,
    ),
    Item(name="says-utf-8-and-is-not", kind="page", make=lambda: f"<p>{PROSE} ".encode() + b"\xff\xfe\x80" * 100_000),
    Item(name="bytes-as-a-page", kind="page", make=lambda: Random(3).randbytes(400_000)),
)
