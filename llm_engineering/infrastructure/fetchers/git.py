"""Fetches git repositories with the `git` program: shallow, byte-exact, never asking, never running what they bring."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Checkout
from llm_engineering.infrastructure.fetchers import ssrf_guard
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, about, one_line
from llm_engineering.infrastructure.fetchers.guarded_transport import Deadline, clock, guarded_client, honest_errors
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard, checked_url, port_of
from llm_engineering.infrastructure.fetchers.status import redirect

ADVERTISEMENT = "/info/refs?service=git-upload-pack"  # the first request of git over HTTP
MAX_REDIRECTS = 5
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
# The bytes of a file are those of its blob: nothing that .gitattributes asks for is done.
ATTRIBUTES = "* -text -crlf -eol -ident -filter -working-tree-encoding\n"
HOPELESS = (
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


class GitRepositories:
    """Plays `Repositories`. `timeout` in seconds and `max_bytes` on disk hold for one checkout as a whole.

    Takes http(s)://, ssh://, user@host:path, file:// and folders. Symbolic links of a repository are left out of the
    checkout, submodules are empty folders, files kept in Git LFS stay the pointers that the repository holds.
    """

    def __init__(
        self,
        *,
        timeout: float,
        max_bytes: int,
        allow_hosts: Sequence[str] = (),
        resolve: ssrf_guard.Resolve = ssrf_guard.resolve,
    ) -> None:
        self._timeout, self._max_bytes = timeout, max_bytes
        self._guard = SsrfGuard(allow_hosts=allow_hosts, resolve=resolve)

    def head(self, url: str, *, branch: str | None = None) -> str:
        """The commit the branch (None: the default one) points to. Raises SourceError."""
        with about(url), tempfile.TemporaryDirectory(prefix="llm-twin-git-") as home:
            git = self._reach(url, Path(home))
            listing = git("ls-remote", "--", git.address, f"refs/heads/{_checked_branch(branch)}" if branch else "HEAD")
            if not listing.strip():
                raise _nothing(branch)
            return listing.split()[0]

    @contextmanager
    def checkout(self, url: str, *, branch: str | None = None) -> Iterator[Checkout]:
        """A shallow copy in a temporary folder, removed on exit. Raises SourceError."""
        with tempfile.TemporaryDirectory(prefix="llm-twin-git-", ignore_cleanup_errors=True) as home:
            with about(url):
                copy = self._clone(self._reach(url, Path(home)), Path(home) / "repository", branch)
            yield copy

    def _clone(self, git: "Git", folder: Path, branch: str | None) -> Checkout:
        named = (f"--branch={branch}",) if branch else ()
        shallow = ("--depth=1", "--single-branch", "--no-tags", "--no-recurse-submodules", "--template=")
        git("clone", "--quiet", *shallow, *named, "--no-checkout", "--", git.address, str(folder))
        try:
            commit = git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", folder=folder).strip()
        except FetchError as trouble:
            raise _nothing(branch) from trouble
        attributes = folder / ".git" / "info" / "attributes"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text(ATTRIBUTES)
        git("checkout", "--quiet", "--detach", commit, folder=folder)
        for line in git("ls-files", "--stage", "-z", folder=folder).split("\0"):
            if line.startswith("120000 "):  # a link, checked out as a file that holds where it points
                (folder / line.partition("\t")[2]).unlink(missing_ok=True)
        return Checkout(folder, commit)

    def _reach(self, url: str, home: Path) -> "Git":
        """A `git` that talks to what this address means, after the guard has looked at it."""
        if shutil.which("git") is None:
            raise FetchError(Reason.GIT, "git is not installed: apt install git, or https://git-scm.com", retry=False)
        deadline = Deadline(self._timeout)
        try:
            address, pinned = self._checked(url, deadline)
        except FetchTimeout:
            raise _late(self._timeout) from None
        return Git(address, pinned, home=home, deadline=deadline, timeout=self._timeout, max_bytes=self._max_bytes)

    def _checked(self, url: str, deadline: Deadline) -> tuple[str, tuple[str, ...]]:
        """The address for git, and the settings that pin its host to the addresses that were checked."""
        if url.startswith("-") or any(c in url for c in "\n\r\0"):
            raise FetchError(Reason.BAD_LINK, "this is no address of a repository", retry=False)
        if "://" not in url and "::" not in url and "@" in url.partition(":")[0] and "/" not in url.partition(":")[0]:
            user_host, _, path = url.partition(":")
            url = f"ssh://{user_host}/{path.removeprefix('/')}"
        scheme = url.partition("://")[0].lower() if "://" in url else ""
        match scheme:
            case "http" | "https":
                return self._follow(url.rstrip("/"), deadline)
            case "ssh":
                # ssh looks the name up again: whoever owns the name could change it in between.
                self._guard.addresses(_ssh_host(url), urlsplit(url).port or 22)
                return url, ()
            case "file":
                return _local(Path(unquote(urlsplit(url).path))), ()
            case "" if "::" not in url:
                return _local(Path(url).expanduser().resolve()), ()
        raise FetchError(Reason.BAD_LINK, "git is read from http(s)://, ssh://, file:// and folders", retry=False)

    def _follow(self, base: str, deadline: Deadline) -> tuple[str, tuple[str, ...]]:
        """Where a repository on the web has moved to; asks as git would, over connections that are checked."""
        with guarded_client(self._guard, user_agent="git/2 (llm-twin)") as client, clock(deadline):
            for _hop in range(MAX_REDIRECTS + 1):
                parts = checked_url(base)
                with honest_errors(), client.stream("GET", base + ADVERTISEMENT, timeout=self._timeout) as response:
                    location = redirect(response)
                    _check(response.status_code)
                if not location:
                    found = self._guard.addresses(parts.hostname, port_of(parts))
                    pin = f"{parts.hostname}:{port_of(parts)}:{','.join(map(_bracketed, found))}"
                    return base, (f"http.curloptResolve={pin}",)
                there = urljoin(base + ADVERTISEMENT, location)
                if not there.endswith(ADVERTISEMENT):
                    raise FetchError(Reason.GIT, f"there is no repository here, it redirects to {there}", retry=False)
                base = there.removesuffix(ADVERTISEMENT)
        raise FetchError(Reason.REDIRECT_LOOP, f"more than {MAX_REDIRECTS} redirects", retry=False)


class Git:
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
                self._watch(process)
            finally:
                _end(process)
            if process.returncode:
                raise _as_fetch_error(_tail(err), local=self.address.startswith("file:"))
            out.seek(0)
            return out.read().decode("utf-8", "surrogateescape")

    def _watch(self, process: subprocess.Popen) -> None:
        pause = 0.02
        while True:
            try:
                process.wait(min(pause, self._deadline.left()))
                break
            except subprocess.TimeoutExpired:
                began = time.monotonic()
                self._measure()
                pause = min(1.0, max(2 * pause, 5 * (time.monotonic() - began)))
            except FetchTimeout:
                raise _late(self._timeout) from None
        self._measure()

    def _measure(self) -> None:
        if _size(self._home) > self._max_bytes:
            detail = f"more than {self._max_bytes:,} bytes (git.max_repository_bytes)"
            raise FetchError(Reason.TOO_LARGE, detail, retry=False)


def _environment(outside: Mapping[str, str], home: Path) -> dict[str, str]:
    """Nothing of the user's own git set-up, nobody to ask for a password, and no protocol but these."""
    kept = {name: value for name, value in outside.items() if not name.startswith("GIT_") or name == "GIT_SSL_CAINFO"}
    proxies = [name for name in kept if name.lower().endswith("_proxy")]
    return {name: value for name, value in kept.items() if name not in proxies} | {
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
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
    }


def _check(status: int) -> None:
    if status < 400:
        return
    if status in (401, 403):
        detail = f"HTTP {status}: the repository is private or does not exist; it is never asked for a password"
        raise FetchError(Reason.GIT, detail, retry=False)
    if status in (404, 410):
        raise FetchError(Reason.NOT_FOUND, f"HTTP {status}", retry=False)
    raise FetchError(Reason.GIT, f"HTTP {status}", retry=status == 429 or status >= 500)


def _ssh_host(url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host or host.startswith("-"):
        raise FetchError(Reason.BAD_LINK, "the address names no host", retry=False)
    return host


def _local(folder: Path) -> str:
    if not folder.exists():
        raise FetchError(Reason.MISSING_FILE, f"there is no folder {folder}", retry=False)
    return folder.absolute().as_uri()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _late(seconds: float) -> FetchError:
    return FetchError(Reason.TIMEOUT, f"not done within {seconds:g} s (git.timeout)", retry=True)


def _checked_branch(branch: str) -> str:
    if branch.startswith("-") or any(c.isspace() or not c.isprintable() or c in "~^:?*[\\" for c in branch):
        raise FetchError(Reason.BAD_LINK, f"{one_line(branch, 60)} is no name of a branch", retry=False)
    return branch


def _nothing(branch: str | None) -> FetchError:
    if branch:
        return FetchError(Reason.GIT, f"the repository has no branch {branch}", retry=False)
    return FetchError(Reason.GIT, "the repository is empty: its default branch has no commit", retry=True)


def _as_fetch_error(words: str, *, local: bool) -> FetchError:
    lines = [line.partition(": ")[2] for line in words.splitlines() if line.startswith(("fatal: ", "error: "))]
    detail = "; ".join(lines) or words or "git failed without a word"
    hopeless = local or any(one in words.lower() for one in HOPELESS)
    return FetchError(Reason.GIT, one_line(detail), retry=not hopeless)


def _tail(file) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
    return file.read().decode("utf-8", "replace")


def _size(folder: Path) -> int:
    """Bytes on disk; small files count with the blocks they take. Files may vanish while we look."""
    total, folders = 0, [folder]
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


def _end(process: subprocess.Popen) -> None:
    """Kill it, with what it started (they share its process group), unless it ended by itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
