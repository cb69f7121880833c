"""Does the time of a call grow with its input, or with the square of it? Measured in CPU time, by doubling."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

MAX_SIZE = 1_000_000  # characters
MAX_GROWTH = 2.5  # of the time, per doubling of the input; a square grows fourfold
IN_A_ROW = 3  # doublings that must grow so: one alone may be a cache that overflowed
LONG = 0.25  # seconds: a call that takes longer is not doubled any more
SHORT = 0.001  # seconds: what is shorter cannot be measured well enough to be blamed
FEW = (8, 12, 16, 20, 24, 32, 64, 128)  # repeats: what takes exponential time must be found here
LONG_FOR_FEW = 0.02  # seconds


class Hostile(NamedTuple):
    """An input of any size: `pump` over and over between two ends."""

    pump: str
    before: str = ""
    after: str = ""

    def of(self, size: int) -> str:
        """About `size` characters."""
        return self.before + self.pump * max(1, size // len(self.pump)) + self.after


class Superlinear(NamedTuple):
    """What was seen: seconds by size of the input."""

    hostile: Hostile
    seconds: dict[int, float]

    def __str__(self) -> str:
        seen = ", ".join(f"{size}: {seconds * 1000:.1f} ms" for size, seconds in self.seconds.items())
        return f"{self.hostile!r} takes {seen}"


def seconds_of(call: Callable[[Any], object], given: Any, *, repeats: int = 3) -> float:
    """The least CPU time of some calls; of one, when it is long."""
    least = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        call(given)
        least = min(least, time.process_time() - began)
        if least > LONG:
            break
    return least


def superlinear(
    call: Callable[[Any], object],
    hostiles: Iterable[Hostile],
    *,
    convert: Callable[[str], Any] = str,
    screen: int = 4096,
    max_size: int = MAX_SIZE,
) -> Superlinear | None:
    """The first input on which the call's time grows faster than linearly, seen twice; None when there is none.

    Each input is screened with small sizes first. What takes more than six times as long for four times as much is
    doubled until it takes long: only growth over MAX_GROWTH in the last IN_A_ROW doublings counts.
    """
    for hostile in hostiles:
        seconds = _Seconds(call, hostile, convert)
        if _explodes(seconds):
            seen = _explodes(seconds)
        elif _is_suspicious(seconds, screen) and _grows(seconds, max_size):
            seen = _grows(seconds, max_size)
        else:
            continue
        if seen:
            return Superlinear(hostile, seen)
    return None


class _Seconds:
    """What one kind of input of a size takes."""

    def __init__(self, call: Callable[[Any], object], hostile: Hostile, convert: Callable[[str], Any]) -> None:
        self._call, self.hostile, self._convert = call, hostile, convert

    def __call__(self, size: int, *, repeats: int = 1) -> float:
        return seconds_of(self._call, self._convert(self.hostile.of(size)), repeats=repeats)


def _explodes(seconds: _Seconds) -> dict[int, float]:
    """Seconds by size, when a few repeats take long already, and a few more of them many times as long."""
    seen: dict[int, float] = {}
    for before, count in pairwise((0, *FEW)):
        size = count * len(seconds.hostile.pump)
        seen[size] = seconds(size)
        if before and seen[size] > LONG_FOR_FEW:
            least = seen[before * len(seconds.hostile.pump)] * (count / before) ** 2
            return seen if seen[size] > least else {}
    return {}


def _is_suspicious(seconds: _Seconds, screen: int) -> bool:
    """A square of 4096 is 8 million steps, of at least half a nanosecond."""
    large = seconds(screen)
    return large > SHORT and large > 6 * seconds(screen // 4)


def _grows(seconds: _Seconds, max_size: int) -> dict[int, float]:
    """Seconds by size, when the last doublings grew too much; else empty."""
    seen: dict[int, float] = {}
    size = 8 * len(seconds.hostile.pump)
    while size <= max_size:
        seen[size] = seconds(size, repeats=3)
        if seen[size] > LONG:
            break
        size *= 2
    last = list(seen.values())[-IN_A_ROW - 1 :]
    growths = [after / max(before, 1e-9) for before, after in pairwise(last)]
    return seen if len(growths) == IN_A_ROW and min(growths) > MAX_GROWTH and last[-1] > SHORT else {}


def hostile_inputs(
    pumps: Iterable[str], befores: Iterable[str] = ("",), afters: Iterable[str] = ("", "\0")
) -> Iterator[Hostile]:
    """Every combination, each once."""
    befores, afters = list(befores), list(afters)
    for pump in dict.fromkeys(pumps):
        for before in befores:
            for after in afters:
                yield Hostile(pump, before, after)


COMMON_PUMPS = (
    *(
        " ",
        "\n",
        "\t",
        "\r",
        "\r\n",
        "<",
        ">",
        "[",
        "]",
        "(",
        "{",
        "}",
        "`",
        "~",
        "#",
        "*",
        "_",
        "-",
        "=",
        "/",
        "\\",
        "|",
    ),
    *(
        "0",
        "a",
        "A",
        "é",
        "漢",
        '"',
        "'",
        "“",
        ".",
        ",",
        ":",
        ";",
        "?",
        "!",
        "&",
        "%",
        "@",
        "$",
        "+",
        "\u200d",
        "\U000e0061",
    ),
    *(
        "\n ",
        "a ",
        ": ",
        "a.",
        "a-",
        "a'",
        "1.",
        "1 ",
        "- ",
        "# ",
        "> ",
        "\n\n",
        "\n-",
        "\n#",
        "![",
        "](",
        "[](",
        "<a ",
        "</",
        "<!--",
    ),
    *(
        "```\n",
        "~~~\n",
        "**",
        "__",
        "http://",
        "://",
        "&#",
        "0:",
        "a\n",
        "\n\t",
        "[1",
        "[1] ",
        '"a',
        "'a ",
        "--",
        "<|",
        "|>",
        "a_",
    ),
)
