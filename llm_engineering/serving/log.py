"""What the server's processes write to standard error."""

import sys


def log_to_stderr() -> None:
    """One line per request that is no probe, and traces without the values in them, which may be questions and keys."""
    from loguru import logger

    line = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level} {message}"
    logger.remove()
    logger.add(sys.stderr, level="INFO", format=line, diagnose=False, backtrace=False)
