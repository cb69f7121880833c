"""What stands around a passage: the wider text a reader wants to see, and the headings above it."""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

_LINE = re.compile(r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})|(?P<marks>#{1,6})(?=[ \t]|$))(?P<rest>[^\n]*)$", re.MULTILINE)
_CLOSING_MARKS = re.compile(r"(?:^|(?<=[ \t]))#+$")
_BREAKS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n\s*"), re.compile(r"(?<=[.!?])\s+"), re.compile(r"\s+"))
_LINK = re.compile(r"!?\[([^\]\n]{0,200})\]\([^)\n]{0,200}\)")  # in a heading, whose LONGEST is 200

LONGEST_HEADING = 200  # characters; every chunk below carries it


class Headings:
    """The ATX headings of a Markdown text (CommonMark 4.2), those inside fenced code left out."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._breadcrumbs: list[tuple[str, ...]] = []
        above: list[tuple[int, str]] = []
        for start, level, title in _headings(text):
            above = [*(heading for heading in above if heading[0] < level), (level, title)]
            self._starts.append(start)
            self._breadcrumbs.append(tuple(name for _, name in above if name))

    def at(self, position: int) -> tuple[str, ...]:
        """Outermost first; a heading that starts at `position` is among them."""
        index = bisect_right(self._starts, position)
        return self._breadcrumbs[index - 1] if index else ()


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each begins, its level and its plain title."""
    fence = ""
    for line in _LINE.finditer(text):
        rest = line["rest"].strip()[:LONGEST_HEADING]
        if mark := line["fence"]:
            if not fence:
                fence = mark if mark[0] == "~" or "`" not in rest else ""
            elif mark[0] == fence[0] and len(mark) >= len(fence) and not rest:
                fence = ""
        elif not fence:
            title = _LINK.sub(r"\1", _CLOSING_MARKS.sub("", rest)).replace("**", "").replace("`", "")
            yield line.start(), len(line["marks"]), " ".join(title.split())


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
        if found := deque(pattern.finditer(text, low, high), maxlen=1):
            return found[0].start()
    return low
