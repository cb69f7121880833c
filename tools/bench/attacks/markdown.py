"""Text, Markdown and its front matter."""

from collections.abc import Callable
from random import Random

from tools.bench.attacks.item import MEGABYTE, PROSE, Item, file_item


def _markdown(name: str, text: Callable[[], str]) -> Item:
    return file_item(f"{name}.md", lambda: f"{PROSE}\n\n{text()}\n")


def _front(name: str, matter: Callable[[], str]) -> Item:
    return file_item(f"front-matter-{name}.md", lambda: f"---\n{matter()}\n---\n\n{PROSE}\n")


def _aliases(reference: str) -> str:
    """Nine levels of nine references each."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(["a0: &a0 [x]", *levels, f"title: {reference}"])


def _merges() -> str:
    levels = [f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(["m0: &m0 {k: v}", *levels])


MARKDOWN = (
    _markdown("heading-of-spaces", lambda: "# a" + " " * 6_000 + "b"),
    _markdown("heading-of-tabs-and-hashes", lambda: "# a" + "\t #" * 3_000 + " b"),
    _markdown("headings-of-spaces", lambda: ("#" + " " * 500 + "\n") * 2_000),
    _markdown("unclosed-fences", lambda: "```\n~~~~\n`````\n" * 50_000),
    _markdown("fences-that-grow", lambda: "\n".join("`" * n for n in range(3, 1_500))),
    _markdown("brackets", lambda: "[" * 2 * MEGABYTE),
    _markdown("brackets-in-lines", lambda: ("[" * 1_000 + "\n") * 1_000),
    _markdown("links-unclosed", lambda: "[a](" * 400_000),
    _markdown("images-unclosed", lambda: "![" * 700_000),
    _markdown("emphasis", lambda: "*a_" * 500_000),
    _markdown("quotes", lambda: (">" * 2_000 + " x\n") * 300),
    _markdown("lists-nested", lambda: "\n".join(" " * n + "- x" for n in range(1_500))),
    _markdown("table-of-bars", lambda: "|" * 500_000 + "\n" + "|-" * 250_000 + "|"),
    _markdown("code-spans-that-grow", lambda: " ".join("`" * n for n in range(1, 1_500))),
    _markdown("reference-definitions", lambda: "[a]: /b 'c\n" * 150_000),
    _markdown("comments-unclosed", lambda: "<!--" * 400_000),
    _markdown("autolinks", lambda: "<a@" * 500_000),
    _markdown("tags-unclosed", lambda: "<a " * 600_000),
    _front("aliases", lambda: _aliases("*a8")),
    _front("merges", _merges),
    _front("deep", lambda: "a: " + "[" * 20_000),
    _front("digits", lambda: "title: " + "9" * 50_000),
    _front("absurd-date", lambda: "date: 0001-01-01T00:00:00+23:59"),
    _front("month-99", lambda: "date: 2024-99-99"),
    _front("tags", lambda: "title: !!python/object/apply:os.system ['true']"),
    _front("sexagesimal", lambda: "title: 1" + ":59" * 20_000),
    file_item("front-matter-unclosed.md", lambda: "---\n" * 300_000),
    file_item("front-matter-that-ends-in-spaces.md", lambda: "---\na: b\n" + ("---" + " " * 500 + "x\n") * 2_000),
    file_item(
        "title-of-escapes.md", lambda: f"# \x1b]52;c;aGVsbG8=\x07\x1b[2J\x1b]8;;http://x\x1b\\ A title\n\n{PROSE}\n"
    ),
    file_item("combining-marks.md", lambda: f"# {PROSE}\n\na" + "\u0315\u0300\u05ae\u0301" * 100_000),
    file_item("one-word.txt", lambda: "a" * 2 * MEGABYTE),
    file_item("spaces.txt", lambda: (" " * 1_000 + "\t") * 2_000 + "x"),
    file_item("zero-bytes.md", bytes),
    file_item("nul-filled.md", lambda: bytes(MEGABYTE)),
    file_item("nul-later.md", lambda: PROSE.encode() * 40 + bytes(MEGABYTE)),
    file_item("utf-16-cut-off.md", lambda: b"\xff\xfe" + PROSE.encode("utf-16-le")[:-1]),
    file_item("bytes-of-no-charset.txt", lambda: bytes(b or 1 for b in Random(7).randbytes(300_000))),
    file_item("declared-charset-unknown.html", lambda: f"<meta charset=klingon><p>{PROSE} \xe9".encode("latin-1")),
    file_item("declared-charset-utf-7.html", lambda: f"<meta charset=utf-7><p>{PROSE} +AGE- \xe9".encode("latin-1")),
)
