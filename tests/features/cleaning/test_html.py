# ruff: noqa: RUF001, E501  (typographic quotes and long lines of markup are what is tested)
"""HTML into Markdown: what the author wrote stays as it was, what surrounds it goes."""

import re
from datetime import UTC, datetime

import pytest

from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.cleaning.html import html_to_markdown

FILLER = (
    "<p>The first paragraph of this article says enough about its subject that any reader, and any extractor, can "
    "see that it is prose written by a person and not a menu.</p>"
    "<p>The second paragraph goes on in the same way, with commas, and clauses, and a full stop at the end of it.</p>"
)


def page(inner: str, head: str = "<title>T</title>") -> str:
    return f"<html><head>{head}</head><body><article>{FILLER}{inner}{FILLER}</article></body></html>"


def clean(inner: str) -> str:
    return clean_body(page(inner), "text/html").text


def code_of(markdown: str) -> tuple[str, str]:
    found = re.search(r"^(`{3,})(\S*)\n(.*?)\n\1$", markdown, re.DOTALL | re.MULTILINE)
    assert found, markdown
    return found.group(2), found.group(3)


def test_headings_keep_their_level():
    text = clean("<h1>One</h1><p>Words.</p><h2>Two <em>and</em> a half</h2><p>More.</p><h4>Four</h4><p>End.</p>")
    assert "# One\n" in text
    assert "## Two *and* a half\n" in text
    assert "#### Four\n" in text


def test_a_link_keeps_its_sentence_and_its_target():
    text = clean('<p>See <a href="https://x.example/a?b=1">the <b>other</b> page</a>, please.</p>')
    assert "See [the **other** page](https://x.example/a?b=1), please." in text


def test_a_relative_link_becomes_absolute_where_the_page_says_what_it_is_relative_to():
    head = '<title>T</title><link rel="canonical" href="https://blog.example/2024/post">'
    text = clean_body(page('<p>Go <a href="../about me">there</a> now.</p>', head), "text/html").text
    assert "[there](https://blog.example/about%20me)" in text
    given = html_to_markdown(page('<p>Go <a href="b">there</a> now.</p>'), base="https://y.example/a").text
    assert "[there](https://y.example/b)" in given


@pytest.mark.parametrize("href", ["#part", "javascript:alert(1)", "", "http://[broken", "data:text/html,x"])
def test_a_link_nobody_could_follow_is_only_its_text(href):
    assert "Look here, reader." in clean(f'<p>Look <a href="{href}">here</a>, reader.</p>')


def test_spaces_around_inline_tags_are_kept_and_no_new_ones_appear():
    text = clean(
        "<p>It<b>'</b>s <i>don’t</i>, <b>not </b>dont; un<b>believ</b>able, <a href='https://x.y/'> this </a>!</p>"
    )
    assert "It**'**s *don’t*, **not** dont; un**believ**able, [this](https://x.y/) !" in text


def test_apostrophes_and_entities_survive():
    assert "It's Ann's &amp so “much” – fish & chips © 2024" in clean(
        "<p>It&#39;s Ann&rsquo;s".replace("&rsquo;", "'")
        + " &amp;amp so &ldquo;much&rdquo; &ndash; fish &amp; chips &copy; 2024</p>"
    )


def test_nested_lists_keep_their_shape():
    text = clean(
        "<ul><li>first point here<ul><li>inner point one</li><li>inner <b>point</b> two</li></ul></li><li>second</li></ul>"
        "<ol><li>alpha step</li><li>beta step</li></ol>"
    )
    assert "- first point here\n  - inner point one\n  - inner **point** two\n- second" in text
    assert "1. alpha step\n2. beta step" in text


def test_a_table_becomes_a_pipe_table():
    text = clean(
        "<table><thead><tr><th>Name</th><th>Speed</th></tr></thead>"
        "<tr><td>left | right</td><td><a href='https://x.y/z'>12</a> ms</td></tr><tr><td>short</td></tr></table>"
    )
    assert "| Name | Speed |\n| --- | --- |\n| left \\| right | [12](https://x.y/z) ms |\n| short |  |" in text


def test_a_table_that_only_lays_the_page_out_is_no_table():
    text = clean_body(f"<table><tr><td>{FILLER}</td></tr></table>", "text/html").text
    assert "|" not in text
    assert "The second paragraph" in text


def test_quotations_are_quoted():
    assert "> Somebody said this once.\n>\n> And that." in clean(
        "<blockquote><p>Somebody said this once.</p><p>And that.</p></blockquote>"
    )
    assert "She said “well” twice." in clean("<p>She said <q>well</q> twice.</p>")


def test_inline_code_is_not_changed_by_what_is_in_it():
    text = clean("<p>Call <code>a *b* `c`</code> or <kbd>Ctrl</kbd> now.</p>")
    assert "Call ``  a *b* `c`  ``".replace("  ", " ") in text
    assert "`Ctrl`" in text


def test_a_line_that_only_looks_like_a_heading_is_escaped():
    assert "\n\n\\# of items is what it counts, and it is long enough.\n\n" in clean(
        "<p># of items is what it counts, and it is long enough.</p>"
    )


def test_boilerplate_is_gone():
    html = (
        "<html><head><title>T</title><style>p{}</style></head><body><nav><a href='/'>Home link</a></nav>"
        "<header><div class='cookie-banner'>Accept our cookies</div></header>"
        f"<article>{FILLER}</article><aside>Related story</aside><div class='sidebar'><a href='/x'>Popular now</a></div>"
        "<footer>Imprint line</footer><script>var tracking = 1</script><noscript>Turn it on</noscript></body></html>"
    )
    text = clean_body(html, "text/html").text
    assert "The first paragraph" in text
    for gone in ("Home link", "Accept our", "Related story", "Popular now", "Imprint", "tracking", "Turn it on"):
        assert gone not in text


PYTHON = (
    'def f(x):\n    """Doc."""\n    if x < 1 and x > -1:\n\n        return "a  b"  # two spaces\n\treturn \'&amp;\''
)
ESCAPED = PYTHON.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def spans(code: str) -> str:
    """As a highlighter does it: every word in a span of its own, white space between them."""
    return re.sub(r"(&\w+;|\w+)", r'<span class="k">\1</span>', code)


DRESSED = {
    "bare": (f"<pre>{ESCAPED}</pre>", ""),
    "with code inside": (f'<pre><code class="language-python">{ESCAPED}\n</code></pre>', "python"),
    "Pygments": (f'<div class="highlight highlight-python"><pre><span></span>{spans(ESCAPED)}\n</pre></div>', "python"),
    "codehilite": (f'<div class="codehilite python"><pre>{spans(ESCAPED)}\n</pre></div>', "python"),
    "highlight.js": (f'<pre><code class="hljs python">{spans(ESCAPED)}</code></pre>', "python"),
    "highlight.js lang-": (f'<pre><code class="hljs lang-python">{spans(ESCAPED)}</code></pre>', "python"),
    "Prism toolbar": (
        f'<div class="code-toolbar"><pre class="language-python line-numbers"><code class="language-python">{spans(ESCAPED)}'
        '<span aria-hidden="true" class="line-numbers-rows"><span></span><span></span></span></code></pre>'
        '<div class="toolbar"><button>Copy</button></div></div>',
        "python",
    ),
    "GitHub": (
        f'<div class="highlight highlight-source-python notranslate"><pre>{spans(ESCAPED)}</pre></div>',
        "python",
    ),
    "Rouge (Jekyll)": (
        '<div class="language-python highlighter-rouge"><div class="highlight"><pre class="highlight"><code>'
        f"{spans(ESCAPED)}\n</code></pre></div></div>",
        "python",
    ),
    "figure": (
        f'<figure class="highlight"><pre><code class="language-python" data-lang="python">{spans(ESCAPED)}</code></pre></figure>',
        "python",
    ),
    "line-number table": (
        '<table class="highlighttable"><tr><td class="linenos"><div class="linenodiv"><pre>1\n2\n3</pre></div></td>'
        f'<td class="code"><div class="highlight"><pre>{spans(ESCAPED)}\n</pre></div></td></tr></table>',
        "",
    ),
    "Hugo table": (
        '<div class="highlight"><table class="lntable"><tr><td class="lntd"><pre class="chroma"><code><span class="lnt">1\n'
        f'</span></code></pre></td><td class="lntd"><pre class="chroma"><code class="language-python">{spans(ESCAPED)}'
        "</code></pre></td></tr></table></div>",
        "python",
    ),
    "inline line numbers": (
        "<pre>"
        + "\n".join(f'<span class="lineno">{n}</span>{line}' for n, line in enumerate(ESCAPED.split("\n"), 1))
        + "</pre>",
        "",
    ),
    "GitHub blob": (
        '<table class="highlight"><tbody>'
        + "".join(
            f'<tr><td class="blob-num" data-line-number="{n}"></td><td class="blob-code blob-code-inner">{line}</td></tr>'
            for n, line in enumerate(ESCAPED.split("\n"), 1)
        )
        + "</tbody></table>",
        "",
    ),
    "Shiki (Substack)": (
        '<div class="highlighted_code_block" data-attrs="{}"><pre class="shiki"><code class="language-python">'
        + "\n".join(f'<span class="line">{spans(line)}</span>' for line in ESCAPED.split("\n"))
        + "</code></pre></div>",
        "python",
    ),
    "one element per line": (
        "<pre><code>"
        + "".join(f"<div class='line'>{line or '<br>'}</div>" for line in ESCAPED.split("\n"))
        + "</code></pre>",
        "",
    ),
    "Medium": (
        '<pre class="mx my"><span id="2f1c" class="nf">' + spans(ESCAPED).replace("\n", "<br>") + "</span></pre>",
        "",
    ),
}


@pytest.mark.parametrize("dress", DRESSED)
def test_code_survives_every_highlighter_exactly(dress):
    html, language = DRESSED[dress]
    assert code_of(clean(html)) == (language, PYTHON)


def test_code_in_a_list_item_keeps_its_lines():
    text = clean("<ol><li>Run this command first:<pre>make\n  install</pre></li><li>Then go home.</li></ol>")
    assert "1. Run this command first:\n\n   ```\n   make\n     install\n   ```\n2. Then go home." in text


def test_code_with_fences_inside_gets_a_longer_fence():
    assert code_of(clean("<pre>```\nx\n```</pre>")) == ("", "```\nx\n```")
    assert "\n````\n" in clean("<pre>```\nx\n```</pre>")


def test_title_and_date_come_from_json_ld_first():
    head = (
        '<title>Site | Other</title><meta property="og:title" content="Og">'
        '<script type="application/ld+json">{"@graph": [{"@type": ["BlogPosting"], "headline": "The &amp; headline",'
        ' "datePublished": "2024-03-01T10:00:00+02:00"}]}</script>'
    )
    cleaned = clean_body(page("", head), "text/html")
    assert cleaned.title == "The & headline"
    assert cleaned.published_at == datetime(2024, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("head", "inner", "title", "day"),
    [
        ('<meta property="og:title" content="Og"><title>T</title>', "", "Og", None),
        ("<title>Only   title</title>", "", "Only title", None),
        ("", "<h1>The only <i>heading</i></h1>", "The only heading", None),
        ('<meta name="date" content="2024-05-06">', "", "", 6),
        ('<meta property="article:published_time" content="Mon, 06 May 2024 10:00:00 GMT">', "", "", 6),
        ("", '<time datetime="2024-05-06T00:00:00Z">May</time>', "", 6),
        ('<meta name="date" content="yesterday"><script type="application/ld+json">{broken</script>', "", "", None),
    ],
)
def test_title_and_date_come_from_what_the_page_has(head, inner, title, day):
    cleaned = clean_body(page(inner, head), "text/html; charset=utf-8")
    assert cleaned.title == title
    assert (cleaned.published_at.day if cleaned.published_at else None) == day


def test_characters_that_cut_words_in_two_are_dropped_outside_code():
    text = clean("<p>Soft\u00adhy\u200bphen and cafe\u0301 are words a search must find.</p><pre>a\u00adb</pre>")
    assert "Softhyphen and café are words" in text
    assert code_of(text) == ("", "a\u00adb")


def test_private_marks_in_a_page_cannot_confuse_ours():
    text = clean("<p>Before \U00100100 middle \U00108000 &#x100101; after, and so the sentence goes on.</p>")
    assert "Before middle after, and so the sentence goes on." in " ".join(text.split())
