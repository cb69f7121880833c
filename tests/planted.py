"""A fault planted in an adapter, to see the law of its role turn red."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest


class Planted:
    """`adapter`, where each given method is replaced by `fault(real method, its arguments)`."""

    def __init__(self, adapter: Any, **faults: Callable[..., Any]) -> None:
        self._adapter, self._faults = adapter, faults

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._adapter, name)
        return partial(self._faults[name], real) if name in self._faults else real


@contextmanager
def turns_red() -> Generator[None]:
    """What runs inside must fail: by an assertion, an error that was waited for and did not come, or an unpacking of
    what is not there. A mistake in the planting itself (TypeError, AttributeError) does not count."""
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError, LookupError)):
        yield
