"""What every command does with our errors."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from tools.terminal import say


@contextmanager
def errors_as_exit_codes() -> Generator[None]:
    """One line on the error output and exit code 1, or 2 where a config, a setting or the command line is wrong."""
    try:
        yield
    except LLMTwinError as error:
        say(error, err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
