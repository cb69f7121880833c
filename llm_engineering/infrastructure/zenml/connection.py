"""The connection to ZenML, where its errors become ours. Nothing of it is imported before it is needed."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from zenml.client import Client

ROOT = Path(__file__).resolve().parents[3]


def open_zenml(*, debug: bool = False) -> "Client":
    """Quiet, and telling nobody. Call it before anything imports zenml."""
    os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "INFO" if debug else "ERROR")
    os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
    from filelock import FileLock
    from zenml.client import Client
    from zenml.config.global_config import GlobalConfiguration
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(ROOT))
    if not debug:
        for name in ("zenml", "alembic", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with FileLock(Path(GlobalConfiguration().config_directory) / ".llm-twin.lock"):
        _ = GlobalConfiguration().zen_store  # made when first asked; two processes that do so at once break it
    return Client()


@contextmanager
def connected(what: str) -> "Generator[Client]":
    """`what` of ours is kept there. Raises StoreUnavailable that names it when ZenML, its database or its artifact
    store cannot be reached, read or written."""
    try:
        yield open_zenml()
    except OSError as error:
        raise _unusable(what, error) from error
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError
        from zenml.exceptions import ZenMLBaseException

        if isinstance(error, SQLAlchemyError | ZenMLBaseException):
            raise _unusable(what, error) from error
        raise


def _unusable(what: str, error: Exception) -> StoreUnavailable:
    line = (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
    return StoreUnavailable(f"{what} (ZenML) cannot be used: {line}. `poe doctor` looks at it")
