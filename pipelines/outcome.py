"""How a run with several parts ends: everything runs, then the run is as red as its reddest part."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from llm_engineering.domain.errors import LLMTwinError


class RunFailed(LLMTwinError):
    """Some part of a run failed; the others completed. `red` says which and why."""

    def __init__(self, red: Mapping[str, str]) -> None:
        self.red = dict(red)
        super().__init__("; ".join(f"{what}: {why}" for what, why in red.items()))


class Settled(NamedTuple):
    """`green` are the futures of the steps that completed: what comes `after` them is drawn below them."""

    green: list[Any]
    red: dict[str, str]


def settle(futures: Mapping[str, Any]) -> Settled:
    """Wait for every step; what failed, and why.

    The errors are not swallowed: ZenML has marked those steps failed, and `raise_if_red` marks the run.
    """
    green, red = [], {}
    for what, future in futures.items():
        try:
            future.wait()
            green.append(future)
        except Exception as error:
            red[what] = str(error) or type(error).__name__
    return Settled(green, red)


def raise_if_red(red: Mapping[str, str]) -> None:
    if red:
        raise RunFailed(red)


def step_id(step: str, name: str) -> str:
    """ZenML wants letters, digits, dashes and underscores; two names that look alike there still differ."""
    from llm_engineering.domain.ids import content_hash

    plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[:60]
    return f"{step}_{plain}" if plain == name.replace(" ", "_") else f"{step}_{plain}_{content_hash(name)[:6]}"
