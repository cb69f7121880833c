"""Find the code blocks of a page and give back their exact text, however a highlighter dressed them."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from lxml.html import HtmlElement


class CodeBlock(NamedTuple):
    text: str
    language: str = ""


_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight-source|highlight|brush|sourceCode|code)[-:]\s*([\w+#.-]+)")
_AFTER = re.compile(r"(?:^|\s)(?:sourceCode|hljs|prettyprint|codehilite|highlight|src src)[\s-]+([a-z][\w+#-]*)")
_NOT_LANGUAGES = {
    *(
        "text",
        "plain",
        "plaintext",
        "plain-text",
        "none",
        "nohighlight",
        "no-highlight",
        "default",
        "auto",
        "undefined",
    ),
    *("block", "wrap", "wrapper", "toolbar", "source", "table", "box", "container", "linenums", "line-numbers", "code"),
    *("copy", "hljs", "lines", "line", "pre", "snippet", "dark", "light", "linenos", "numbers", "shell-session"),
}
_NUMBERS = re.compile(
    r"(?:^|[\s_-])(?:lineno|linenos|line-?numbers?(?:-rows)?|hljs-ln-n(?:umbers)?|gutter|lnt|ln-num|blob-num|rouge-gutter)"
    r"(?:$|[\s_-])"
)
_CHROME = re.compile(r"(?:^|[\s_-])(?:copy|clipboard|toolbar|copybtn|tooltip)(?:$|[\s_-])")
_LINE = re.compile(r"(?:^|\s)(?:line|code-line|view-line|ec-line|cl|token-line|react-code-line)(?:$|\s)")
_BLOCKS = {"div", "p", "li", "tr"}


def code_containers(root: HtmlElement) -> Iterator[HtmlElement]:
    """The outermost element of each code block: the <pre>, or the table that only lays its lines out."""
    tables = [table for table in root.iter("table") if _lays_out_code(table)]
    laid_out = set(tables)
    yield from tables
    for pre in root.iter("pre", "listing", "xmp"):
        above = pre.iterancestors("pre", "listing", "table")
        if not any(one in laid_out or one.tag != "table" for one in above):
            yield pre


def _lays_out_code(table: HtmlElement) -> bool:
    """A table of line numbers and code: one <pre> per column, or one row per line."""
    if table.find(".//th") is not None or any(above.tag in ("pre", "table") for above in table.iterancestors()):
        return False
    cells = list(table.iter("td"))
    code = [cell for cell in cells if not _is_numbers(cell)]
    return len(code) < len(cells) and any(
        "blob-code" in (c.get("class") or "") or next(c.iter("pre", "code"), None) is not None for c in code
    )


def code_block(element: HtmlElement) -> CodeBlock:
    """The text exactly as written: every space kept, line numbers and copy buttons gone."""
    parts: list[str] = []
    _collect(element, parts)
    text = "".join(parts).replace("\r\n", "\n").replace("\r", "\n")
    # one line break after <pre> belongs to the markup (HTML, section 4.4.3), as do those at the very end
    text = re.sub(r"\A(?:[ \t]*\n)+", "", text)
    return CodeBlock(text.rstrip(), language_of(element))


def _collect(element: HtmlElement, parts: list[str]) -> None:
    """Depth first without recursion: highlighted code may be nested deeply."""
    stack: list[tuple[HtmlElement, int]] = [(element, -1)]
    while stack:
        node, began = stack.pop()
        if began >= 0:  # all its children are done
            inside = parts[-1] if len(parts) > began else ""
            if _ends_line(node, inside) and (_is_line(node) or _needs_break(parts)):
                parts.append("\n")
            if node is not element and node.tail:
                parts.append(node.tail)
            continue
        opens = node is not element and node.tag in ("pre", *_BLOCKS) and _needs_break(parts)
        if opens:
            parts.append("\n")
        stack.append((node, len(parts)))
        if not isinstance(node.tag, str) or _is_numbers(node) or _is_chrome(node):
            continue
        if own := "\n" if node.tag == "br" else node.text:
            parts.append(own)  # never "": the last part is what stands last
        stack.extend((child, -1) for child in reversed(node))


def _needs_break(parts: list[str]) -> bool:
    return bool(parts) and not parts[-1].endswith("\n")


def _ends_line(node: HtmlElement, inside: str) -> bool:
    """A block ends a line; so does a <span class="line"> that is followed at once by the next."""
    if node.tag in _BLOCKS:
        return not inside.endswith("\n")
    following = node.getnext()
    if node.tag not in ("span", "code") or following is None or node.tail:
        return False
    return _is_line(node) and _is_line(following)


def _is_line(node: HtmlElement) -> bool:
    """One element per line of code; an empty one is an empty line."""
    return node.tag == "tr" or bool(_LINE.search(node.get("class") or ""))


def _is_numbers(node: HtmlElement) -> bool:
    names = node.get("class") or ""
    return bool(names and _NUMBERS.search(names)) and _only_digits(node)


def _only_digits(node: HtmlElement) -> bool:
    return not re.search(r"[^\s\d.:|]", "".join(node.itertext()))


def _is_chrome(node: HtmlElement) -> bool:
    return node.tag in ("button", "script", "style", "svg") or bool(_CHROME.search(node.get("class") or ""))


def language_of(element: HtmlElement) -> str:
    """As the markup names it, on the block, the <code> inside or one of three wrappers around it."""
    inner = [element, *islice(element.iter("code", "pre"), 3)]
    above = [a for a, _ in zip(element.iterancestors("div", "figure", "td", "table", "pre"), range(3), strict=False)]
    for node in (*inner, *above):
        for name in (node.get("data-lang"), node.get("data-language"), node.get("data-code-language")):
            if name and is_language(name):
                return name.lower()
        if found := _language_in(node.get("class") or ""):
            return found
    return ""


def _language_in(names: str) -> str:
    for pattern in (_LANGUAGE, _AFTER):
        for name in pattern.findall(names):
            name = name.removeprefix("source-").rstrip(";")
            if is_language(name):
                return name.lower()
    return ""


def is_language(name: str) -> bool:
    """Whether a code block may be called so: "no-highlight" and the like are none."""
    return bool(re.fullmatch(r"[\w+#.-]{1,24}", name)) and name.lower() not in _NOT_LANGUAGES
