"""The extractor's tree and our markers into Markdown."""

import re
from collections import Counter
from collections.abc import Iterator

from lxml.etree import _Element  # ty: ignore[import-not-found]  # compiled, without stubs

from llm_engineering.domain.text import composed
from llm_engineering.features.cleaning.code import CodeBlock
from llm_engineering.features.cleaning.inline_markers import (
    BLOCK_CLOSE,
    CODE_CLOSE,
    CODE_OPEN,
    EM_CLOSE,
    EM_OPEN,
    FIRST_BLOCK,
    HEADINGS,
    LINK_CLOSE,
    MARKER,
    STRONG_CLOSE,
    STRONG_OPEN,
    Markers,
    is_block,
    is_link,
)

_LEVELS = {char: level for level, char in enumerate(HEADINGS.values(), start=1)}
_CONTAINERS = {"body", "div", "html", "section", "article", "main"}
_BLOCKS = _CONTAINERS | {"p", "head", "list", "item", "quote", "table", "row", "cell", "ab", "hr"}
_LINK = "link"  # all links are one kind: the innermost is closed
_PARTNER = {STRONG_CLOSE: STRONG_OPEN, EM_CLOSE: EM_OPEN, CODE_CLOSE: CODE_OPEN, LINK_CLOSE: _LINK}
_SIGN = {STRONG_OPEN: "**", EM_OPEN: "*"}
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")  # soft hyphens and the like cut words in two for a search
_LOOKS_LIKE_SYNTAX = re.compile(r"^(?=#{1,6} |```|~~~)", re.MULTILINE)


def render(body: _Element, markers: Markers) -> str:
    """Markdown whose blocks are separated by one empty line."""
    return "\n\n".join(_blocks(body, markers)).strip()


def _blocks(element: _Element, markers: Markers) -> Iterator[str]:
    """Loose text between blocks is a paragraph of its own."""
    run: list[str] = [element.text or ""]
    for child in element:
        if child.tag in _BLOCKS:
            yield from _paragraphs("".join(run), markers)
            yield from _block(child, markers)
            run = [child.tail or ""]
        else:
            run.append(_inline_text(child))
            run.append(child.tail or "")
    yield from _paragraphs("".join(run), markers)


def _block(element: _Element, markers: Markers) -> Iterator[str]:
    if element.tag == "head":
        yield from _heading(element, markers)
    elif element.tag == "list":
        yield from _list(element, markers)
    elif element.tag == "table":
        yield from _table(element, markers)
    elif element.tag == "quote":
        yield from _quote(element, markers)
    else:
        yield from _blocks(element, markers)


def _heading(element: _Element, markers: Markers) -> Iterator[str]:
    """Its text carries the level; a head without one was made from something else (a summary, a caption)."""
    text = _inline_text(element)
    if not any(char in text for char in _LEVELS):
        text = HEADINGS["h3"] + text
    yield from _paragraphs(text, markers)


def _quote(element: _Element, markers: Markers) -> Iterator[str]:
    blocks = list(_blocks(element, markers))
    if blocks and all(block.startswith("```") for block in blocks):  # a <pre>, which the extractor takes for a quote
        yield from blocks
    elif blocks:
        yield "\n".join(f"> {line}".rstrip() for line in "\n\n".join(blocks).split("\n"))


def _list(element: _Element, markers: Markers) -> Iterator[str]:
    ordered = element.get("rend") == "ol"
    lines: list[str] = []
    number = 0
    for item in element:
        blocks = list(_blocks(item, markers))
        if not blocks:
            continue
        number += 1
        bullet = f"{number}. " if ordered else "- "
        if (item.get("rend") or "").startswith("dt"):
            bullet = ""
        lines.append(_item(bullet, blocks))
        if item.tail and item.tail.strip():
            lines.extend(_paragraphs(item.tail, markers))
    if lines:
        yield "\n".join(lines)


def _item(bullet: str, blocks: list[str]) -> str:
    """The first block after the bullet, the others below it, indented. Fenced code keeps its own lines."""
    joined = blocks[0]
    for block in blocks[1:]:
        nested = re.match(r"(?:- |\d+\. )", block)
        joined += ("\n" if nested else "\n\n") + block
    indent = " " * len(bullet)
    first, *rest = joined.split("\n")
    return "\n".join([bullet + first, *(indent + line if line else "" for line in rest)])


def _table(element: _Element, markers: Markers) -> Iterator[str]:
    """A table of data becomes a pipe table; one that only lays the page out becomes its cells, one after another."""
    own = (row for row in element.iter("row") if next(row.iterancestors("table")) is element)
    rows = [[cell for cell in row if cell.tag == "cell"] for row in own]
    rows = [row for row in rows if row]
    if not rows:
        yield from _blocks(element, markers)
    elif max(map(len, rows)) == 1 or any(_is_layout(cell) for row in rows for cell in row):
        for row in rows:
            for cell in row:
                yield from _blocks(cell, markers)
    else:
        width = max(map(len, rows))
        lines = [_row([_cell(cell, markers) for cell in row], width) for row in rows]
        if any(line.strip("| ") for line in lines):
            lines.insert(1, "|" + " --- |" * width)
            yield "\n".join(lines)


def _is_layout(cell: _Element) -> bool:
    text = _inline_text(cell)
    return len(text) > 1000 or any(is_block(char) for char in MARKER.findall(text)) or cell.find(".//table") is not None


def _cell(cell: _Element, markers: Markers) -> str:
    text = " ".join(" ".join(_blocks(cell, markers)).split())
    return text.replace("|", "\\|")


def _row(cells: list[str], width: int) -> str:
    return "| " + " | ".join([*cells, *[""] * (width - len(cells))]) + " |"


def _inline_text(element: _Element) -> str:
    """The text of an inline element; a line break stays one."""
    if element.tag == "lb":
        return "\n"
    parts = [element.text or ""]
    for child in element:
        if child.tag in _BLOCKS:
            parts.append(" ")
        parts.append(_inline_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


# --- markers into syntax -------------------------------------------------------------------------------------


def _paragraphs(text: str, markers: Markers) -> Iterator[str]:
    """Cut a run of text with markers into paragraphs, headings and code blocks."""
    position = 0
    for found in re.finditer("[\U00108000-\U0010fffd]", text):
        if found.start() < position:
            continue
        yield from _paragraph(text[position : found.start()], markers)
        index = ord(found.group()) - FIRST_BLOCK
        if index < len(markers.blocks):
            yield fenced(markers.blocks[index])
        closing = text.find(BLOCK_CLOSE, found.end())
        position = closing + 1 if closing >= 0 else len(text)
    yield from _paragraph(text[position:], markers)


def _paragraph(text: str, markers: Markers) -> Iterator[str]:
    level = next((_LEVELS[char] for char in text if char in _LEVELS), 0)
    if level:
        before, _, after = text.partition(HEADINGS[f"h{level}"])
        yield from _paragraph(before, markers)
        if line := _single_spaced(inline(after, markers)).replace("\n", " "):
            yield f"{'#' * level} {line}"
        return
    for part in re.split(r"\n\s*\n", _single_spaced(inline(text, markers))):
        if part.strip():
            yield _LOOKS_LIKE_SYNTAX.sub(r"\\", part.strip())


def _single_spaced(text: str) -> str:
    """Single spaces inside lines; the extractor's own line breaks stay."""
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def fenced(block: CodeBlock) -> str:
    """A fence longer than any in the code (CommonMark, section 4.5)."""
    longest = max((len(run) for run in re.findall(r"`{3,}", block.text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{block.language}\n{block.text}\n{fence}"


def inline(text: str, markers: Markers) -> str:
    """Balanced markers become Markdown, with spaces outside; a marker whose partner was cut away is dropped."""
    text = composed(_INVISIBLE.sub("", text))
    if not MARKER.search(text):
        return text
    stack: list[tuple[str, list[str]]] = [("", [])]
    opened: Counter[str] = Counter()  # of each kind, on the stack
    for token in re.split("([\U00100000-\U0010fffd])", text):
        if not token:
            continue
        if not MARKER.fullmatch(token):
            stack[-1][1].append(token)
        elif token in (STRONG_OPEN, EM_OPEN, CODE_OPEN) or is_link(token):
            stack.append((token, []))
            opened[_kind(token)] += 1
        elif token in _PARTNER:
            _close(stack, opened, token, markers)
    return "".join(part for _, parts in stack for part in parts)


def _close(stack: list[tuple[str, list[str]]], opened: Counter[str], token: str, markers: Markers) -> None:
    """Each marker is put on the stack once and taken off once: the time stays in step with the text."""
    if not opened[_PARTNER[token]]:
        return
    levels = []
    while not levels or _kind(levels[-1][0]) != _PARTNER[token]:
        levels.append(stack.pop())
        opened[_kind(levels[-1][0])] -= 1
    opening = levels[-1][0]
    text = "".join(part for _, parts in reversed(levels) for part in parts)
    inside = opened[CODE_OPEN] or (not is_link(opening) and opened[opening])
    stack[-1][1].append(text if inside else _apply_syntax(opening, text, markers))


def _kind(opening: str) -> str:
    return _LINK if is_link(opening) else opening


def _apply_syntax(opening: str, text: str, markers: Markers) -> str:
    core = text.strip()
    if not core:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    if opening == CODE_OPEN:
        core = " ".join(core.split("\n"))
        ticks = "`" * (max((len(run) for run in re.findall(r"`+", core)), default=0) + 1)
        pad = " " if core.startswith("`") or core.endswith("`") else ""
        return f"{before}{ticks}{pad}{core}{pad}{ticks}{after}"
    if is_link(opening):
        target = markers.target(opening)
        return f"{before}[{core}]({target}){after}" if target else text
    return f"{before}{_SIGN[opening]}{core}{_SIGN[opening]}{after}"
