"""What every line of the log goes through, whoever wrote it and wherever it goes."""

import traceback
from typing import TYPE_CHECKING

from llm_engineering.domain.text import printable

if TYPE_CHECKING:
    from loguru import Record


def make_log_printable() -> None:
    """Links, titles and reasons stand in log lines and in tracebacks: from here on nothing in them steers the terminal
    they are read on. For the whole process."""
    from loguru import logger

    logger.configure(patcher=_make_printable)


def _make_printable(record: "Record") -> None:
    lines = [record["message"]]
    if (raised := record["exception"]) is not None:
        lines.append("".join(traceback.format_exception(raised.type, raised.value, raised.traceback)).rstrip())
        record["exception"] = None
    record["message"] = printable("\n".join(lines))
