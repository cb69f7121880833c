"""Runs the `git` program: never asking, never running what a repository brings, within limits."""

import os
import selectors
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import PIPE
from typing import IO, NamedTuple

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.child_processes import ChildProcess, Limits
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
# For whatever git starts, too, such as the other side of a repository in a folder: honest ones fit into the memory.
MEMORY_CONFIG = """
[core]
    bigFileThreshold = 16m
    deltaBaseCacheLimit = 64m
[pack]
    threads = 2
    windowMemory = 64m
    deltaCacheSize = 64m
[index]
    threads = 1
[checkout]
    workers = 1
"""
ENVIRONMENT = {  # nobody to ask for a password, and no protocol but these
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=20",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
PASSED_ON = ("GIT_SSL_CAINFO",)  # of our own environment; with SSH_AUTH_SOCK, where ssh is to log in
OUTPUT = 1_000_000  # bytes; more than any answer that is taken as a whole has
PIECE = 1 << 16
OUT_OF_MEMORY = ("out of memory", "malloc failed", "cannot allocate memory")
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


class RepositoryLimits(NamedTuple):
    """On one repository, with the names of their settings. `seconds` and `bytes` on disk hold for all commands."""

    seconds: float  # git.timeout
    bytes: int  # git.max_repository_bytes
    files: int  # git.max_files, folders included
    memory: int  # git.max_memory, of each process of git

    def of_process(self) -> Limits:
        return Limits(memory=self.memory, file_bytes=self.bytes, cpu_seconds=int(2 * self.seconds) + 10)


class GitProcess:
    """Runs git until its time is up or its folder too large; then it and its children are killed."""

    def __init__(
        self, address: str, config: Sequence[str], *, home: Path, deadline: Deadline, limits: RepositoryLimits
    ) -> None:
        self.address, self.limits, self._home, self._deadline = address, limits, home, deadline
        self._config = [part for one in (*CONFIG, *config) for part in ("-c", one)]
        (home / "gitconfig").write_text(MEMORY_CONFIG)

    def __call__(self, *arguments: str, folder: Path | None = None) -> str:
        """What git wrote. Raises FetchError: GIT, TIMEOUT or TOO_LARGE."""
        written = bytearray()
        with closing(self._output(*arguments, folder=folder)) as pieces:
            for piece in pieces:
                written += piece
                if len(written) > OUTPUT:
                    detail = f"git {arguments[0]} answers with more than {OUTPUT:,} bytes"
                    raise FetchError(Reason.TOO_LARGE, detail, retry=False)
        return written.decode("utf-8", "surrogateescape")

    def records(self, *arguments: str, folder: Path) -> Generator[bytes]:
        """As git writes them, each ended by NUL (`-z`); one is never larger than `OUTPUT`. Raises as a call does."""
        rest = b""
        with closing(self._output(*arguments, folder=folder)) as pieces:
            for piece in pieces:
                *whole, rest = (rest + piece).split(b"\0")
                yield from whole
                if len(rest) > OUTPUT:
                    raise FetchError(
                        Reason.TOO_LARGE, f"the names of files take more than {OUTPUT:,} bytes", retry=False
                    )

    def _output(self, *arguments: str, folder: Path | None) -> Generator[bytes]:
        command = ["git", *self._config, *(["-C", str(folder)] if folder else []), *arguments]
        with (
            (self._home / "errors").open("w+b") as errors,
            ChildProcess(
                command,
                folder=self._home,
                limits=self.limits.of_process(),
                environment=self._environment(),
                stdout=PIPE,
                stderr=errors,
            ) as process,
        ):
            yield from self._read(process)
            process.wait()
            if process.returncode:
                raise self._failure(process.returncode, _last_output(errors))
            self._check_size()

    def _read(self, process: ChildProcess) -> Generator[bytes]:
        """Until it ends, with a look at its folder now and then: more rarely, the longer looking takes."""
        pause, look = 0.02, 0.0
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                try:
                    seconds = min(pause, self._deadline.left())
                except FetchTimeout:
                    raise timeout_error(self.limits.seconds) from None
                if selector.select(seconds):
                    piece = os.read(process.stdout.fileno(), PIECE)
                    if not piece:
                        return
                    yield piece
                if (began := time.monotonic()) >= look:
                    self._check_size()
                    pause = min(1.0, max(2 * pause, 5 * (time.monotonic() - began)))
                    look = time.monotonic() + pause

    def _check_size(self) -> None:
        if _disk_usage(self._home) > self.limits.bytes:
            raise self._too_large()

    def _too_large(self) -> FetchError:
        detail = f"more than {self.limits.bytes:,} bytes (git.max_repository_bytes)"
        return FetchError(Reason.TOO_LARGE, detail, retry=False)

    def _failure(self, code: int, words: str) -> FetchError:
        """For what git said, or for the limit that ended it."""
        if code == -signal.SIGXFSZ or "file too large" in words.lower():
            return self._too_large()
        if code == -signal.SIGXCPU:
            return timeout_error(self.limits.seconds)
        if any(one in words.lower() for one in OUT_OF_MEMORY):
            detail = f"git needs more than {self.limits.memory:,} bytes of memory for it (git.max_memory)"
            return FetchError(Reason.TOO_LARGE, detail, retry=False)
        if code < 0:
            words = words or f"git was ended by the signal {signal.Signals(-code).name}"
        return _as_fetch_error(words, local=self.address.startswith("file:"))

    def _environment(self) -> dict[str, str]:
        """Nothing of the user's own git set-up."""
        names = (*PASSED_ON, "SSH_AUTH_SOCK") if self.address.startswith("ssh:") else PASSED_ON
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return kept | ENVIRONMENT | {"GIT_CONFIG_GLOBAL": str(self._home / "gitconfig")}


def timeout_error(seconds: float) -> FetchError:
    return FetchError(Reason.TIMEOUT, f"not done within {seconds:g} s (git.timeout)", retry=True)


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
