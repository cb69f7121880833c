"""The poe tasks that run pipelines, one per row of the table of pipelines (`include_script` in pyproject.toml)."""

import sys
import traceback
from typing import Any


def tasks() -> dict[str, Any]:
    """A table that cannot be imported is told, and costs no other task: `poe lint` must still say what is wrong."""
    try:
        from llm_engineering.operate.pipelines import PIPELINES
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return {}
    return {
        "tasks": {one.task: {"cmd": f"python -m {one.command}", "help": one.help} for one in PIPELINES},
    }
