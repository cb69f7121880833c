"""What stands around a passage: the wider text a reader wants to see, and the headings above it."""

import re
from bisect import bisect_right
from typing import NamedTuple

_LINE = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|(?P<marks>#{1,6})(?:[ \t]+(?P<title>[^\n]*?))?(?:[ \t]+#+)?[ \t]*)$",
    re.MULTILINE,
)
_BREAKS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n\s*"), re.compile(r"(?<=[.!?])\s+"), re.compile(r"\s+"))
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")


class Headings:
    """The ATX headings of a Markdown text (CommonMark 4.2), those inside fenced code left out."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._breadcrumbs: list[tuple[str, ...]] = []
        above: list[tuple[int, str]] = []
        for start, level, title in _headings(text):
            above = [*((l, t) for l, t in above if l < level), (level, title)]
            self._starts.append(start)
            self._breadcrumbs.append(tuple(t for _, t in above if t))

    def at(self, position: int) -> tuple[str, ...]:
        """Outermost first; a heading that starts at `position` is among them."""
        index = bisect_right(self._starts, position)
        return self._breadcrumbs[index - 1] if index else ()


class _Heading(NamedTuple):
    start: int
    level: int
    title: str


def _headings(text: str):
    fence = ""
    for line in _LINE.finditer(text):
        if mark := line["fence"]:
            if not fence:
                fence = mark if mark[0] == "~" or "`" not in line["info"] else ""
            elif mark[0] == fence[0] and len(mark) >= len(fence) and not line["info"].strip():
                fence = ""
        elif not fence:
            title = _LINK.sub(r"\1", line["title"] or "").replace("**", "").replace("`", "")
            yield _Heading(line.start(), len(line["marks"]), " ".join(title.split()))


def window(text: str, start: int, end: int, *, size: int) -> str:
    """About `size` characters of `text` around `text[start:end]`, and never less than that.

    Begins and ends at the farthest paragraph break within reach, else at a line's, a sentence's or a word's.
    """
    spare = max(0, size - (end - start))
    before = min(start, max(spare // 2, spare - (len(text) - end)))
    after = min(len(text) - end, spare - before)
    return text[_begin(text, start - before, start) : _finish(text, end, end + after)].strip()


def _begin(text: str, low: int, high: int) -> int:
    if low == 0:
        return 0
    for pattern in _BREAKS:
        if found := pattern.search(text, low, high):
            return found.end()
    return high


def _finish(text: str, low: int, high: int) -> int:
    if high == len(text):
        return high
    for pattern in _BREAKS:
        last = None
        for last in pattern.finditer(text, low, high):
            pass
        if last:
            return last.start()
    return low
