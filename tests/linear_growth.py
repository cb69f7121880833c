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
FIRST_SIZES = (8, 12, 16, 20, 24, 32, 64, 128, 256)  # repeats: what takes exponential time must be found here


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

    Each input is screened with small sizes first. What takes more than four times as long for four times as much is
    doubled until it takes long: only growth over MAX_GROWTH in the last IN_A_ROW doublings counts.
    """
    for hostile in hostiles:
        if (start := _suspicious_from(call, hostile, convert, screen)) and (
            _grows(call, hostile, convert, start, max_size) and (seen := _grows(call, hostile, convert, start, max_size))
        ):
            return Superlinear(hostile, seen)
    return None


def _suspicious_from(
    call: Callable[[Any], object], hostile: Hostile, convert: Callable[[str], Any], screen: int
) -> int:
    """The size from which to double; 0 for what is surely linear."""
    for count in FIRST_SIZES:
        size = count * len(hostile.pump)
        if seconds_of(call, convert(hostile.of(size)), repeats=1) > 0.02:  # so long for so little
            return max(1, size // 4)
    small = seconds_of(call, convert(hostile.of(screen // 4)), repeats=1)
    large = seconds_of(call, convert(hostile.of(screen)), repeats=1)
    # a square of 4096 is 8 million steps, of at least half a nanosecond
    return screen // 4 if large > 0.001 and large > 6 * small else 0


def _grows(
    call: Callable[[Any], object], hostile: Hostile, convert: Callable[[str], Any], start: int, max_size: int
) -> dict[int, float]:
    """Seconds by size, when the last doublings grew too much; else empty."""
    seen: dict[int, float] = {}
    size = start
    while size <= max_size:
        seen[size] = seconds_of(call, convert(hostile.of(size)))
        if seen[size] > LONG:
            break
        size *= 2
    last = list(seen.values())[-IN_A_ROW - 1 :]
    growths = [after / max(before, 1e-9) for before, after in pairwise(last)]
    too_fast = len(growths) == IN_A_ROW and min(growths) > MAX_GROWTH and last[-1] > SHORT
    exploded = len(seen) > 1 and len(growths) < IN_A_ROW and min(growths) > MAX_GROWTH**2  # too fast to see it thrice
    return seen if too_fast or exploded else {}


def hostile_inputs(pumps: Iterable[str], befores: Iterable[str] = ("",), afters: Iterable[str] = ("", "\0")) -> Iterator[Hostile]:
    """Every combination, each once."""
    befores, afters = list(befores), list(afters)
    for pump in dict.fromkeys(pumps):
        for before in befores:
            for after in afters:
                yield Hostile(pump, before, after)


COMMON_PUMPS = (
    *(" ", "\n", "\t", "\r", "\r\n", "<", ">", "[", "]", "(", "{", "}", "`", "~", "#", "*", "_", "-", "=", "/", "\\", "|"),
    *("0", "a", "A", "é", "漢", '"', "'", "“", ".", ",", ":", ";", "?", "!", "&", "%", "@", "$", "+", "\u200d", "\U000e0061"),
    *("\n ", "a ", ": ", "a.", "a-", "a'", "1.", "1 ", "- ", "# ", "> ", "\n\n", "\n-", "\n#", "![", "](", "[](", "<a ", "</", "<!--"),
    *("```\n", "~~~\n", "**", "__", "http://", "://", "&#", "0:", "a\n", "\n\t", "[1", "[1] ", '"a', "'a ", "--", "<|", "|>", "a_"),
)
