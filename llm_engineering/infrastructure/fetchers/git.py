"""Fetches git repositories: shallow, byte-exact, and only from addresses that the guard has looked at."""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import Checkout
from llm_engineering.infrastructure.fetchers import ssrf_guard
from llm_engineering.infrastructure.fetchers.deadline import Deadline, deadline_scope
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, as_source_error, printable_line
from llm_engineering.infrastructure.fetchers.git_process import GitProcess, RepositoryLimits, timeout_error
from llm_engineering.infrastructure.fetchers.guarded_transport import guarded_client, translated_errors
from llm_engineering.infrastructure.fetchers.ssrf_guard import (
    PORTS,
    SsrfGuard,
    checked_url,
    host_and_port,
    redirected_url,
)
from llm_engineering.infrastructure.fetchers.status import redirect
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder

ADVERTISEMENT = "/info/refs?service=git-upload-pack"  # the first request of git over HTTP
MAX_REDIRECTS = 5
LONGEST_PATH = 1_000  # bytes of a file's path in a repository, so that it can be read, and removed again, everywhere
DEEPEST_PATH = 100  # folders within folders
# The bytes of a file are those of its blob: nothing that .gitattributes asks for is done.
ATTRIBUTES = "* -text -crlf -eol -ident -filter -working-tree-encoding\n"


class GitRepositories:
    """Plays `Repositories`. `timeout` in seconds, `max_bytes` on disk and `max_files` (folders included) hold for one
    checkout as a whole, `max_memory` in bytes for each process of git. What they mean is settled before a file is
    written.

    Takes http(s)://, ssh://, user@host:path, file:// and folders. Symbolic links of a repository are left out of the
    checkout, submodules are empty folders, files kept in Git LFS stay the pointers that the repository holds.
    """

    def __init__(
        self,
        *,
        timeout: float,
        max_bytes: int,
        max_files: int = 250_000,
        max_memory: int = 1_000_000_000,
        allow_hosts: Sequence[str] = (),
        resolve: ssrf_guard.Resolve = ssrf_guard.resolve,
    ) -> None:
        self._limits = RepositoryLimits(seconds=timeout, bytes=max_bytes, files=max_files, memory=max_memory)
        self._guard = SsrfGuard(allow_hosts=allow_hosts, resolve=resolve)

    def head(self, url: str, *, branch: str | None = None) -> str:
        """The commit the branch (None: the default one) points to. Raises SourceError."""
        with as_source_error(url), TemporaryFolder("git") as home:
            git = self._git(url, home)
            listing = git("ls-remote", "--", git.address, f"refs/heads/{_checked_branch(branch)}" if branch else "HEAD")
            if not listing.strip():
                raise _no_commit(branch)
            return listing.split()[0]

    @contextmanager
    def checkout(self, url: str, *, branch: str | None = None) -> Generator[Checkout]:
        """A shallow copy in a temporary folder, removed on exit. Raises SourceError."""
        with ExitStack() as stack:
            with as_source_error(url):
                home = stack.enter_context(TemporaryFolder("git"))
                copy = self._clone(self._git(url, home), home / "repository", branch)
            yield copy

    def _clone(self, git: GitProcess, folder: Path, branch: str | None) -> Checkout:
        named = (f"--branch={branch}",) if branch else ()
        shallow = ("--depth=1", "--single-branch", "--no-tags", "--no-recurse-submodules", "--template=")
        git("clone", "--quiet", *shallow, *named, "--no-checkout", "--", git.address, str(folder))
        try:
            commit = git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", folder=folder).strip()
        except FetchError as error:
            raise _no_commit(branch) from error
        attributes = folder / ".git" / "info" / "attributes"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text(ATTRIBUTES)
        links = _checked_tree(git, commit, folder)
        git("checkout", "--quiet", "--detach", commit, folder=folder)
        for link in links:  # checked out as a file that holds where it points
            (folder / link).unlink(missing_ok=True)
        return Checkout(folder, commit)

    def _git(self, url: str, home: Path) -> GitProcess:
        """A git that talks to what this address means, after the guard has looked at it."""
        if shutil.which("git") is None:
            raise FetchError(Reason.GIT, "git is not installed: apt install git, or https://git-scm.com", retry=False)
        deadline = Deadline(self._limits.seconds)
        try:
            address, pinned = self._checked_address(url, deadline)
        except FetchTimeout:
            raise timeout_error(self._limits.seconds) from None
        return GitProcess(address, pinned, home=home, deadline=deadline, limits=self._limits)

    # --- addresses ------------------------------------------------------------------------------------------

    def _checked_address(self, url: str, deadline: Deadline) -> tuple[str, tuple[str, ...]]:
        """The address for git, and the settings that pin its host to the addresses that were checked."""
        if url.startswith("-") or any(c in url for c in "\n\r\0"):
            raise FetchError(Reason.BAD_LINK, "this is no address of a repository", retry=False)
        if "://" not in url and "::" not in url and "@" in url.partition(":")[0] and "/" not in url.partition(":")[0]:
            user_host, _, path = url.partition(":")
            url = f"ssh://{user_host}/{path.removeprefix('/')}"
        scheme = url.partition("://")[0].lower() if "://" in url else ""
        match scheme:
            case "http" | "https":
                return self._follow_redirects(url.rstrip("/"), deadline)
            case "ssh":
                # ssh looks the name up again: whoever owns the name could change it in between.
                self._guard.addresses(*_ssh_host_and_port(url))
                return url, ()
            case "file":
                return _folder_url(Path(unquote(urlsplit(url).path))), ()
            case "" if "::" not in url:
                return _folder_url(Path(url).expanduser().resolve()), ()
        raise FetchError(Reason.BAD_LINK, "git is read from http(s)://, ssh://, file:// and folders", retry=False)

    def _follow_redirects(self, base: str, deadline: Deadline) -> tuple[str, tuple[str, ...]]:
        """Where a repository on the web has moved to; asks as git would, over connections that are checked."""
        with guarded_client(self._guard, user_agent="git/2 (llm-twin)") as client, deadline_scope(deadline):
            for _hop in range(MAX_REDIRECTS + 1):
                host, port = host_and_port(checked_url(base))
                request = client.stream("GET", base + ADVERTISEMENT, timeout=self._limits.seconds)
                with translated_errors(), request as response:
                    location = redirect(response)
                    _check_status(response.status_code)
                if not location:
                    addresses = ",".join(map(_bracketed, self._guard.addresses(host, port)))
                    return base, (f"http.curloptResolve={host}:{port}:{addresses}",)
                target = redirected_url(base + ADVERTISEMENT, location)
                if not target.endswith(ADVERTISEMENT):
                    raise FetchError(Reason.GIT, f"there is no repository here, it redirects to {target}", retry=False)
                base = target.removesuffix(ADVERTISEMENT)
        raise FetchError(Reason.REDIRECT_LOOP, f"more than {MAX_REDIRECTS} redirects", retry=False)


def _check_status(status: int) -> None:
    if status < 400:
        return
    if status in (401, 403):
        detail = f"HTTP {status}: the repository is private or does not exist; it is never asked for a password"
        raise FetchError(Reason.GIT, detail, retry=False)
    if status in (404, 410):
        raise FetchError(Reason.NOT_FOUND, f"HTTP {status}", retry=False)
    raise FetchError(Reason.GIT, f"HTTP {status}", retry=status == 429 or status >= 500)


def _checked_tree(git: GitProcess, commit: str, folder: Path) -> list[str]:
    """The paths of the symbolic links in a commit. Raises FetchError(TOO_LARGE) when it holds too much, as small as its
    compressed form may be: git is asked for the list while it walks, and stopped at once."""
    links, entries, size = [], 0, 0
    with closing(git.records("ls-tree", "-r", "-t", "-z", "--long", commit, folder=folder)) as records:
        for record in records:  # mode, type, object and size, then a tab and the path
            facts, _, path = record.partition(b"\t")
            mode, _type, _object, length = facts.split()
            entries += 1
            size += int(length) if length.isdigit() else 0
            if entries > git.limits.files:
                raise _too_large(f"more than {git.limits.files:,} files and folders (git.max_files)")
            if size > git.limits.bytes:
                raise _too_large(f"its files have more than {git.limits.bytes:,} bytes (git.max_repository_bytes)")
            if len(path) > LONGEST_PATH or path.count(b"/") > DEEPEST_PATH:
                raise _too_large(f"{printable_line(os.fsdecode(path), 60)} is a path too long or too deep")
            if mode == b"120000":
                links.append(os.fsdecode(path))
    return links


def _too_large(detail: str) -> FetchError:
    return FetchError(Reason.TOO_LARGE, detail, retry=False)


def _ssh_host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS["ssh"]
    except ValueError as error:
        raise FetchError(Reason.BAD_LINK, f"this is no address of a repository: {error}", retry=False) from error
    if not host or host.startswith("-"):
        raise FetchError(Reason.BAD_LINK, "the address names no host", retry=False)
    return host, port


def _folder_url(folder: Path) -> str:
    if not folder.exists():
        raise FetchError(Reason.MISSING_FILE, f"there is no folder {folder}", retry=False)
    return folder.absolute().as_uri()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _checked_branch(branch: str) -> str:
    if branch.startswith("-") or any(c.isspace() or not c.isprintable() or c in "~^:?*[\\" for c in branch):
        raise FetchError(Reason.BAD_LINK, f"{printable_line(branch, 60)} is no name of a branch", retry=False)
    return branch


def _no_commit(branch: str | None) -> FetchError:
    if branch:
        return FetchError(Reason.GIT, f"the repository has no branch {branch}", retry=False)
    return FetchError(Reason.GIT, "the repository is empty: its default branch has no commit", retry=True)
