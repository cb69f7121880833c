"""Runs the `git` program: never asking, never running what a repository brings, within a time and a size."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.deadline import Deadline
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, printable_line

CONFIG = (
    "credential.helper=",
    "core.askPass=true",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "core.autocrlf=false",
    "core.eol=lf",
    "http.followRedirects=false",  # followed by hand, with the guard looking at each
    "http.proxy=",  # a proxy would resolve names behind the guard's back
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
)
ENVIRONMENT = {  # nobody to ask for a password, and no protocol but these
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=20",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
PERMANENT_ERRORS = (
    "not found",
    "does not exist",
    "does not appear to be a git repository",
    "not a git repository",
    "dubious ownership",
    "authentication failed",
    "could not read username",
    "permission denied",
    "host key verification failed",
    "not allowed",
    "not found in upstream",
    "dumb http transport",
)


class GitProcess:
    """Runs git until its time is up or its folder too large; then it and its children are killed."""

    def __init__(
        self,
        address: str,
        config: Sequence[str],
        *,
        home: Path,
        deadline: Deadline,
        timeout: float,
        max_bytes: int,
    ) -> None:
        self.address, self._home, self._deadline = address, home, deadline
        self._timeout, self._max_bytes = timeout, max_bytes
        self._config = [part for one in (*CONFIG, *config) for part in ("-c", one)]

    def __call__(self, *arguments: str, folder: Path | None = None) -> str:
        """What git wrote. Raises FetchError: GIT, TIMEOUT or TOO_LARGE."""
        command = ["git", *self._config, *(["-C", str(folder)] if folder else []), *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(os.environ, self._home),
                cwd=self._home,
                start_new_session=True,
            )
            try:
                self._wait(process)
            finally:
                _kill_unless_ended(process)
            if process.returncode:
                raise _as_fetch_error(_last_output(err), local=self.address.startswith("file:"))
            out.seek(0)
            return out.read().decode("utf-8", "surrogateescape")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until it ends, with a look at its folder now and then: more rarely, the longer looking takes."""
        pause = 0.02
        while True:
            try:
                process.wait(min(pause, self._deadline.left()))
                break
            except subprocess.TimeoutExpired:
                began = time.monotonic()
                self._check_size()
                pause = min(1.0, max(2 * pause, 5 * (time.monotonic() - began)))
            except FetchTimeout:
                raise timeout_error(self._timeout) from None
        self._check_size()

    def _check_size(self) -> None:
        if _disk_usage(self._home) > self._max_bytes:
            detail = f"more than {self._max_bytes:,} bytes (git.max_repository_bytes)"
            raise FetchError(Reason.TOO_LARGE, detail, retry=False)


def timeout_error(seconds: float) -> FetchError:
    return FetchError(Reason.TIMEOUT, f"not done within {seconds:g} s (git.timeout)", retry=True)


def _environment(outside: Mapping[str, str], home: Path) -> dict[str, str]:
    """Nothing of the user's own git set-up, and no proxies."""
    kept = {name: value for name, value in outside.items() if not name.startswith("GIT_") or name == "GIT_SSL_CAINFO"}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return kept | ENVIRONMENT | {"XDG_CONFIG_HOME": str(home)}


def _as_fetch_error(words: str, *, local: bool) -> FetchError:
    lines = [line.partition(": ")[2] for line in words.splitlines() if line.startswith(("fatal: ", "error: "))]
    detail = "; ".join(lines) or words or "git failed without a word"
    permanent = local or any(one in words.lower() for one in PERMANENT_ERRORS)
    return FetchError(Reason.GIT, printable_line(detail), retry=not permanent)


def _last_output(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
    return file.read().decode("utf-8", "replace")


def _disk_usage(folder: Path) -> int:
    """Bytes on disk; small files count with the blocks they take. Files may vanish while we look."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        stat = entry.stat(follow_symlinks=False)
                        total += max(stat.st_size, getattr(stat, "st_blocks", 0) * 512)
        except FileNotFoundError:
            continue
    return total


def _kill_unless_ended(process: subprocess.Popen[bytes]) -> None:
    """With what it started: they share its process group."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
