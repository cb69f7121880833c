"""What holds for a whole process of the platform, set once before it opens anything."""

import os
from collections.abc import Iterable
from pathlib import Path

from loguru import logger

from llm_engineering.infrastructure.files import make_private, tightened
from llm_engineering.infrastructure.log import make_log_printable

UMASK = 0o077  # the engines of the stores, git and ZenML make files of their own, and none of them is anybody else's

# What the platform writes into its home. A name of its own for each, because the home may be a folder that holds more.
IN_HOME = (
    "api_keys.json", ".api_keys.json.lock", "api_keys.revoked.jsonl", "api_usage.json", "cache", "erasing",
    "evaluation", "feedback.jsonl", ".feedback.jsonl.lock", "sample", "traces",
)  # fmt: skip


def prepare_process(home: Path, stores: Iterable[Path]) -> None:
    """What is written from here on is its owner's alone, whatever the umask was; so is what earlier versions wrote into
    `home` and at the `stores` (SQLite files, folders of an index), which is said when it was not. Nothing that a
    stranger wrote steers the terminal the log is read on."""
    os.umask(UMASK)
    make_log_printable()
    ours = [*(home / name for name in IN_HOME), *_files_of(stores)]
    if found := sum(map(make_private, ours)) + _tighten_home(home):
        logger.warning(
            "{}: {} files and folders could be read by other users of this machine; from now on only by you",
            home,
            found,
        )


def _files_of(stores: Iterable[Path]) -> Iterable[Path]:
    """SQLite keeps the write-ahead log and its index beside the file."""
    return (store.with_name(store.name + suffix) for store in stores for suffix in ("", "-wal", "-shm"))


def _tighten_home(home: Path) -> int:
    """The folder alone, unless it is one that people work in."""
    place = home.absolute()
    if any(place == one or place in one.parents for one in (Path.cwd(), Path.home())):
        return 0
    return tightened(place)
