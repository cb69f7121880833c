"""Starts other programs, and sees to it that none outlives this one. Nothing else in the platform starts any."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

SUPERVISOR = Path(__file__).with_name("child_supervisor.py")
END_SECONDS = 10.0  # for the supervisor to end what it watches, before it is killed itself
# What a program needs to be found and to run. No setting of ours, no password, no token, no key, no proxy.
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")


class Limits(NamedTuple):
    """What each process may take, in bytes and seconds of CPU; None: as much as this one. Linux keeps to all of them,
    macOS hardly to `memory`."""

    memory: int | None = None  # that it may write to; files that are only mapped do not count
    file_bytes: int | None = None  # of one file it writes
    cpu_seconds: int | None = None


UNLIMITED = Limits()


def minimal_environment(home: Path | None = None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a program that gets nothing of ours but what it needs to run; `home`: where it may leave its files."""
    place = str(home or tempfile.gettempdir())
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8", **(more or {})}


class ChildProcess(subprocess.Popen[bytes]):
    """A program that ends, with everything it starts, when `kill` is called or this process ends in whatever way.

    Otherwise a `Popen`, whose `pid` is that of the supervisor between. `folder` is its working folder and its home;
    it is removed when this process is killed, and otherwise left to who made it. Raises FileNotFoundError.
    """

    _lifeline = -1  # until it is started

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path | None = None,
        limits: Limits = UNLIMITED,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        program, *arguments = (str(word) for word in command)
        found = shutil.which(program)
        if found is None:
            raise FileNotFoundError(f"{program} is not installed, or cannot be run")
        self._cutting = threading.Lock()
        watched, self._lifeline = os.pipe()
        orders = (str(watched), str(folder or ""), _as_words(limits))
        try:
            super().__init__(
                [sys.executable, "-I", "-S", str(SUPERVISOR), *orders, found, *arguments],
                env=minimal_environment(folder, environment),
                cwd=folder,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(watched,),
                start_new_session=True,
            )
        except BaseException:
            self._cut()
            raise
        finally:
            os.close(watched)

    def kill(self) -> None:
        """At once and with all its descendants; returns when they are gone. From any thread."""
        with self._cutting:
            if self._lifeline >= 0:
                with suppress(BrokenPipeError):
                    os.write(self._lifeline, b"end")
        try:
            self.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            super().kill()  # what it started has its death signal from the kernel
            self.wait()
        self._cut()

    terminate = kill

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        super().__exit__(None, None, None)

    def _cut(self) -> None:
        with self._cutting:
            lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    def __del__(self) -> None:
        if self._lifeline >= 0:
            self._cut()  # nobody can wait for it any more; its supervisor takes this for our end
        super().__del__()


class Finished(NamedTuple):
    code: int
    output: str
    errors: str


def run_child(
    command: Sequence[str | Path],
    *,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a short program to its end. Raises FileNotFoundError, and subprocess.TimeoutExpired after it was ended."""
    with ChildProcess(command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        output, errors = child.communicate(timeout=timeout)
    return Finished(child.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


def _as_words(limits: Limits) -> str:
    """As the supervisor reads them, by their names in the module `resource`."""
    names = ("RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_CPU")
    return ",".join(f"{name}={most}" for name, most in zip(names, limits, strict=True) if most is not None)
