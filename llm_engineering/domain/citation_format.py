# ruff: noqa: RUF001
"""How an answer cites its passages: what the prompt asks for, what is read in an answer and what is shown agree."""

import re

CITATION = (
    r"[\[【]\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*[\]】]"  # as models write it: [1], [2, 3], [1-3], 【1】; holds no group
)
STARTED_CITATION = r"[\[【][\d\s,;–-]*$"  # the beginning of one at the end of a text
VERIFIED_CITATION = re.compile(r"\[(\d{1,3})\]")  # what `cite` writes, with the passage's number
MAX_RANGE = 50  # [1-50]: more is no citation


def cite(number: int) -> str:
    """A citation of passage `number` as a reader sees it."""
    return f"[{number}]"


RULE = (
    f"After every sentence, cite the passages it rests on by number, like {cite(1)} or {cite(2)}{cite(3)}. "
    "Never cite a number that is not there."
)


def cited_numbers(citation: str) -> list[int]:
    """`[1, 3-5]` -> 1, 3, 4, 5, each once. A range that runs backwards or beyond all reason is its two ends."""
    numbers: list[int] = []
    for part in re.split(r"[,;]", citation):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        whole = len(ends) == 2 and ends[0] <= ends[1] < ends[0] + MAX_RANGE
        numbers += range(ends[0], ends[1] + 1) if whole else ends
    return list(dict.fromkeys(numbers))
