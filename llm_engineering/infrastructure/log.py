"""What every line of the log goes through, whoever wrote it and wherever it goes."""

import logging
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING

from llm_engineering.domain.text import printable

if TYPE_CHECKING:
    from loguru import Record


def make_log_printable() -> None:
    """Links, titles and reasons stand in log lines and in tracebacks: from here on nothing in them steers the terminal
    they are read on. So do the tracebacks of what nobody caught, and what libraries log that nobody listens to. For the
    whole process."""
    from loguru import logger

    logger.configure(patcher=_make_printable)
    sys.excepthook = _print_uncaught
    if logging.lastResort:
        logging.lastResort.setFormatter(_PrintableFormatter())


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(printable("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _make_printable(record: "Record") -> None:
    lines = [record["message"]]
    if (raised := record["exception"]) is not None:
        lines.append("".join(traceback.format_exception(raised.type, raised.value, raised.traceback)).rstrip())
        record["exception"] = None
    record["message"] = printable("\n".join(lines))
