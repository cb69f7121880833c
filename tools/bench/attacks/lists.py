"""Feeds, sitemaps, and LinkedIn's exports."""

import gzip
import io
import zipfile
from collections.abc import Callable

from tools.bench.attacks.item import HTML, MEGABYTE, Item, encoded, page_of


def _feed(name: str, text: Callable[[], str | bytes], media_type: str = "application/xml") -> Item:
    return Item(name=name, kind="feed", make=encoded(text), media_type=media_type)


def _rss(items: str, root: str = "") -> str:
    return f'<?xml version="1.0"?><rss version="2.0" {root}><channel><title>x</title>{items}</channel></rss>'


def _laughs() -> str:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "ha">{levels}]><rss version="2.0"><a>&e9;</a></rss>'


def _zip(files: dict[str, Callable[[], bytes]], packing: int = zipfile.ZIP_DEFLATED) -> Callable[[], bytes]:
    def make() -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data(), compress_type=packing)
        return packed.getvalue()

    return make


def _export(name: str, make: Callable[[], bytes]) -> Item:
    return Item(name=f"{name}.zip", kind="export", make=make, media_type="application/zip")


LISTS = (
    _feed("feed-of-attributes", lambda: _rss("", " ".join(f'a{n}="1"' for n in range(100_000)))),
    _feed("feed-of-laughs", _laughs),
    _feed(
        "feed-of-a-file",
        lambda: (
            '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            '<rss version="2.0"><channel><item><link>http://x/&x;</link></item></channel></rss>'
        ),
    ),
    _feed("feed-deep", lambda: _rss("<a>" * 100_000)),
    _feed(
        "feed-of-links-that-are-none",
        lambda: _rss(
            "".join(
                f"<item><title>x</title><link>{link}</link></item>"
                for link in ("http://[", "//[", "javascript:x", "http://[::1")
            )
        ),
    ),
    _feed("feed-of-one-link", lambda: _rss("<item><link>http://localhost:9/p/x</link></item>" * 20_000)),
    _feed("feed-of-tags", lambda: _rss("<item><title><![CDATA[" + "<a " * 500_000 + "]]></title></item>")),
    _feed(
        "feed-of-absurd-dates",
        lambda: _rss(
            "<item><link>http://localhost:9/p/y</link><pubDate>Mon, 99 Foo 999999999 99:99:99 +9999</pubDate></item>"
        ),
    ),
    _feed("feed-cut-off", lambda: _rss("<item><link>http://localhost:9/p/z")[:-30]),
    _feed("feed-of-no-charset", lambda: b'<?xml version="1.0" encoding="klingon"?><rss></rss>'),
    _feed(
        "sitemap-bomb",
        lambda: gzip.compress(b"<urlset>" + b" " * (300 * MEGABYTE) + b"</urlset>", 9, mtime=0),
        "application/gzip",
    ),
    _feed(
        "sitemap-of-itself",
        lambda: (
            "<sitemapindex>"
            + "".join(f"<sitemap><loc>/hostile/sitemap-of-itself?{n}</loc></sitemap>" for n in range(1_000))
            + "</sitemapindex>"
        ),
    ),
    _feed("sitemap-of-links-that-are-none", lambda: "<urlset>" + "<url><loc>http://[</loc></url>" * 10 + "</urlset>"),
    _feed("page-of-feeds", lambda: "<link rel=alternate type=application/rss+xml href='http://['>" * 1_000, HTML),
    _export("export-that-is-none", lambda: b"PK\x03\x04" + b"garbage" * 1_000),
    _export("export-bomb", _zip({"Shares.csv": lambda: bytes(150 * MEGABYTE)})),
    _export(  # as it is, so that it is no bomb by its ratio
        "export-of-tags",
        _zip({"Articles/Articles/a.html": lambda: page_of("x", "<a " * 400_000)}, zipfile.ZIP_STORED),
    ),
    _export(
        "export-of-one-field",
        _zip({"Shares.csv": lambda: b"Date,ShareLink,ShareCommentary\n" + b'"' * MEGABYTE}, zipfile.ZIP_STORED),
    ),
    _export(
        "export-dated-nowhere", _zip({"Shares.csv": lambda: b"Date,ShareLink,ShareCommentary\n9999-99-99,http://[,x\n"})
    ),
    _export("export-outside", _zip({"../../Shares.csv": lambda: b"Date,ShareLink\n"})),
)
