"""Runs between us and a program that we start, so that the program ends with us whatever happens: a crash, SIGKILL, a
thread that ends. A script on the standard library alone, for `child_processes`:

    python -I -S child_supervisor.py LIFELINE FOLDER LIMITS PROGRAM ARGUMENT…

LIFELINE is a pipe whose other end only the starter holds: a byte there means "end it now", its end that the starter is
no more; then FOLDER, if any, is removed. LIMITS is as `RLIMIT_CPU=60,RLIMIT_DATA=1000000`. What the program leaves
behind, also in sessions of its own, is adopted (Linux) and killed.
"""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LOOK_SECONDS = 1.0  # between two looks for the starter, should another process hold the pipe open
KILL_SECONDS = 5.0  # in which whatever is left is killed again and again
DEFAULT_AGAIN = ("SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGTERM", "SIGINT")  # Python and this script change these


def main(lifeline: int, folder: str, limits: str, command: list[str]) -> int:
    """The program's exit code; below zero the signal that ended it."""
    starter = os.getppid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    for end in (lifeline, woken, wake):
        os.set_inheritable(end, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    terminated: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: terminated.append(number))
    program = start(command, limits)
    while True:
        ready, _, _ = select.select([lifeline, woken], [], [], LOOK_SECONDS)
        if woken in ready:
            os.read(woken, 4096)
        for pid, status in ended():
            if pid == program:
                kill_all(program)
                return os.waitstatus_to_exitcode(status)
        told = lifeline in ready and os.read(lifeline, 1)
        if told or terminated:
            kill_all(program)
            return -signal.SIGKILL
        if lifeline in ready or os.getppid() != starter:
            kill_all(program)
            remove(folder)
            return -signal.SIGKILL


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def start(command: list[str], limits: str) -> int:
    """In a process group of its own; it dies with this process, too."""
    supervisor, pid = os.getpid(), os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        for name in DEFAULT_AGAIN:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        for name, _, most in (one.partition("=") for one in limits.split(",") if one):
            limit(getattr(resource, name), int(most))
        os.execvp(command[0], command)
    except BaseException as error:
        os.write(2, f"{command[0]} does not start: {error}\n".encode("utf-8", "replace"))
    os._exit(127)


def limit(what: int, most: int) -> None:
    """Never above what this process may have itself."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def ended() -> Iterator[tuple[int, int]]:
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found
    except ChildProcessError:
        return


def kill_all(program: int) -> None:
    """Its group, and whatever else has become a child of ours, until there is none."""
    end = time.monotonic() + KILL_SECONDS
    while time.monotonic() < end:
        kill(os.killpg, program)
        for child in children():
            kill(os.kill, child)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def kill(how: Callable[[int, int], None], number: int) -> None:
    try:
        how(number, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def children() -> list[int]:
    try:
        with open("/proc/thread-self/children") as file:  # noqa: PTH123 - pathlib takes longer to import than this runs
            return [int(pid) for pid in file.read().split()]
    except OSError:  # no Linux, or one without CONFIG_PROC_CHILDREN: the group was killed
        return []


def remove(folder: str) -> None:
    if folder:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def end_as(code: int) -> None:
    """As the program ended, so that who started it sees the same."""
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


if __name__ == "__main__":
    end_as(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
