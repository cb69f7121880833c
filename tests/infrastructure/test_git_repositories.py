"""Real repositories, made on the spot, fetched from folders and over HTTP from loopback."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from loopback import Answer
from waiting import until

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.deadline import Deadline
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout
from llm_engineering.infrastructure.fetchers.git import GitRepositories
from llm_engineering.infrastructure.fetchers.git_process import GitProcess, RepositoryLimits

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

WHO = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *arguments: str, **options) -> bytes:
    settings = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=settings, check=True, capture_output=True, **options
    )
    return done.stdout


def commit(folder: Path, **files: str | bytes) -> str:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "-c", "core.autocrlf=false", "add", "-A")
    git(folder, "commit", "-q", "-m", "more")
    return git(folder, "rev-parse", "HEAD").decode().strip()


@pytest.fixture
def origin(tmp_path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    return folder


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made, so that a test can see that none is left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def repositories(*, timeout=30.0, max_bytes=20_000_000, **options) -> GitRepositories:
    return GitRepositories(timeout=timeout, max_bytes=max_bytes, **options)


def failure(work, *arguments, **options) -> SourceError:
    def whole():
        got = work(*arguments, **options)
        if not isinstance(got, str):
            got.__enter__()

    with pytest.raises(SourceError) as caught:
        whole()
    assert "\n" not in caught.value.detail
    return caught.value


# --- what comes back ---------------------------------------------------------------------------------------------


def test_the_head_and_the_checkout_agree_for_a_folder_and_its_file_url(origin, scratch):
    first = commit(origin, README__md="# one")
    second = commit(origin, README__md="# two")
    for url in (str(origin), origin.as_uri()):
        assert repositories().head(url) == second
        with repositories().checkout(url) as copy:
            assert copy.commit == second != first
            assert (copy.path / "README.md").read_text() == "# two"
            assert git(copy.path, "rev-list", "--count", "HEAD").strip() == b"1", "shallow"
        assert not copy.path.exists()
    assert list(scratch.iterdir()) == []


def test_a_named_branch_is_read(origin):
    commit(origin, a__txt="trunk")
    git(origin, "checkout", "-q", "-b", "feature/one")
    other = commit(origin, a__txt="branch")
    git(origin, "checkout", "-q", "trunk")
    assert repositories().head(str(origin), branch="feature/one") == other != repositories().head(str(origin))
    with repositories().checkout(str(origin), branch="feature/one") as copy:
        assert (copy.commit, (copy.path / "a.txt").read_text()) == (other, "branch")


def test_a_missing_branch_is_a_clear_error(origin):
    commit(origin, a__txt="x")
    for work in (repositories().head, repositories().checkout):
        error = failure(work, str(origin), branch="nope")
        assert (error.reason, error.retry) == (Reason.GIT, False)
        assert "nope" in error.detail


@pytest.mark.parametrize("branch", ["--upload-pack=touch x", "a b", "a..~1", "x\n"])
def test_what_cannot_be_a_branch_never_reaches_git(origin, branch):
    commit(origin, a__txt="x")
    assert failure(repositories().head, str(origin), branch=branch).reason in (Reason.BAD_LINK, Reason.GIT)


CONTENT = {
    "crlf.txt": b"one\r\ntwo\r\n",
    "lf.txt": b"one\ntwo\n",
    "mixed.bat": b"one\r\ntwo\n",
    "ident.py": b"# $Id$ and $Id: 1234 $\n",
    "wide.txt": b"\xff\xfea\x00\n\x00",
    "filtered.dat": b"never filtered\n",
    "nul.bin": b"\x00\x01\x02",
}


def test_every_file_has_the_bytes_of_its_blob_whatever_gitattributes_ask_for(origin):
    for name, content in CONTENT.items():
        (origin / name).write_bytes(content)
    git(origin, "-c", "core.autocrlf=false", "add", "-A")
    git(origin, "commit", "-q", "-m", "as they are")
    (origin / ".gitattributes").write_text(
        "* text=auto eol=crlf\n*.py ident\nwide.txt working-tree-encoding=UTF-16LE-BOM\n*.dat filter=evil\n"
    )
    git(origin, "add", ".gitattributes")
    git(origin, "commit", "-q", "-m", "attributes")
    with repositories().checkout(str(origin)) as copy:
        for name in CONTENT:
            assert (copy.path / name).read_bytes() == git(origin, "cat-file", "blob", f"HEAD:{name}"), name


def test_no_symbolic_link_comes_along(origin):
    (origin / "passwords").symlink_to("/etc/passwd")
    (origin / "up").symlink_to("../..")
    commit(origin, a__txt="x")
    with repositories().checkout(str(origin)) as copy:
        assert sorted(path.name for path in copy.path.iterdir()) == [".git", "a.txt"]


def test_submodules_are_not_followed(origin, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    commit(inner, secret__txt="inner")
    commit(origin, a__txt="x")
    git(origin, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    git(origin, "commit", "-q", "-m", "sub")
    with repositories().checkout(str(origin)) as copy:
        assert list((copy.path / "sub").iterdir()) == []


def test_nothing_that_a_repository_or_the_user_brings_is_run(origin, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n[filter "evil"]\n\tsmudge = touch {ran}; cat\n'
        f'[url "ext::sh -c touch% {ran}"]\n\tinsteadOf = file:\n'
    )
    monkeypatch.setenv("HOME", str(home))
    commit(origin, a__dat="x", __gitattributes="*.dat filter=evil\n")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    with repositories().checkout(str(origin)) as copy:
        assert (copy.path / "a.dat").read_text() == "x"
    assert not ran.exists()


def test_a_removed_copy_is_removed_after_an_error_too(origin, scratch):
    commit(origin, a__txt="x")
    with pytest.raises(ZeroDivisionError), repositories().checkout(str(origin)):
        raise ZeroDivisionError
    assert list(scratch.iterdir()) == []


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_an_empty_repository_says_so(origin):
    for work in (repositories().head, repositories().checkout):
        error = failure(work, str(origin))
        assert error.reason == Reason.GIT
        assert "empty" in error.detail


def test_a_missing_folder_and_one_without_git_are_told_apart(tmp_path):
    error = failure(repositories().head, str(tmp_path / "nowhere"))
    assert (error.reason, error.retry) == (Reason.MISSING_FILE, False)
    (tmp_path / "plain").mkdir()
    error = failure(repositories().head, str(tmp_path / "plain"))
    assert (error.reason, error.retry) == (Reason.GIT, False)


@pytest.mark.parametrize(
    "url", ["-x", "--upload-pack=touch x", "ext::sh -c id", "fd::3", "ftp://a/b", "git://a.example/b", "a\nb",
            "ssh://-oProxyCommand=x/y", "-oProxyCommand=x@host:y", "ssh://[::1/x", "https://user:pass@a.example/b",
            "https://"],
)  # fmt: skip
def test_an_address_that_could_run_something_or_names_nothing_is_refused(url):
    error = failure(repositories().head, url)
    assert (error.reason, error.retry) == (Reason.BAD_LINK, False)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "https://169.254.169.254/x", "ssh://git@10.0.0.1/x", "git@localhost:owner/x.git"]
)
def test_a_private_host_is_refused(url):
    error = failure(repositories().head, url)
    assert (error.reason, error.retry) == (Reason.BLOCKED_ADDRESS, False)


def test_an_unknown_host_over_ssh_is_a_git_error_and_asks_nobody():
    with_port = "ssh://git@one.example:1/owner/x.git"
    error = failure(
        repositories(allow_hosts=("one.example",), resolve=lambda host, port: ["127.0.0.1"]).head, with_port
    )
    assert error.reason == Reason.GIT


def test_a_repository_above_the_limit_is_cut_off(origin, scratch):
    import random

    commit(origin, big__bin=random.Random(1).randbytes(3_000_000))
    error = failure(repositories(max_bytes=1_000_000).checkout, str(origin))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "1,000,000 bytes" in error.detail
    assert list(scratch.iterdir()) == []


def test_a_small_pack_that_unfolds_is_cut_off_too(origin):
    commit(origin, big__bin=bytes(30_000_000))
    assert failure(repositories(max_bytes=5_000_000).checkout, str(origin)).reason == Reason.TOO_LARGE


# --- small repositories that mean much ----------------------------------------------------------------------------


def plant(origin: Path, tree: str) -> None:
    """`tree` as the one commit."""
    made = git(origin, "commit-tree", tree, "-m", "x").decode().strip()
    git(origin, "update-ref", "refs/heads/trunk", made)


def blob(origin: Path, content: bytes) -> str:
    return git(origin, "hash-object", "-w", "--stdin", input=content).decode().strip()


def nested(origin: Path, tree: str, *, wide: int, deep: int, name: str = "d") -> str:
    """The same tree again and again: `wide` to the power of `deep` entries."""
    for _ in range(deep):
        lines = "".join(f"040000 tree {tree}\t{name}{number}\n" for number in range(wide))
        tree = git(origin, "mktree", input=lines.encode()).decode().strip()
    return tree


@pytest.mark.parametrize("leaf", ["a file", "nothing"])
def test_trees_that_unpack_to_millions_of_entries_are_stopped_by_their_number(origin, scratch, leaf):
    line = f"100644 blob {blob(origin, b'x')}\tf\n" if leaf == "a file" else ""
    tree = git(origin, "mktree", input=line.encode()).decode().strip()
    plant(origin, nested(origin, tree, wide=10, deep=12))
    error = failure(repositories(max_files=5_000).checkout, str(origin))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "5,000 files and folders (git.max_files)" in error.detail
    assert list(scratch.iterdir()) == []


def test_files_that_unpack_to_more_than_the_limit_are_stopped_before_one_is_written(origin):
    lines = "".join(f"100644 blob {blob(origin, bytes(1_000_000))}\tf{number}\n" for number in range(50))
    plant(origin, git(origin, "mktree", input=lines.encode()).decode().strip())
    error = failure(repositories(max_bytes=20_000_000).checkout, str(origin))
    assert error.reason == Reason.TOO_LARGE
    assert "its files have more than 20,000,000 bytes (git.max_repository_bytes)" in error.detail


@pytest.mark.parametrize(("deep", "name"), [(3_000, "d"), (7, "n" * 200)], ids=["deep", "long"])
def test_a_path_that_no_program_could_follow_is_refused(origin, scratch, deep, name):
    tree = git(origin, "mktree", input=f"100644 blob {blob(origin, b'x')}\tf\n".encode()).decode().strip()
    for _ in range(deep):  # `mktree` once for each would take minutes
        body = f"40000 {name}\0".encode() + bytes.fromhex(tree)
        tree = hashed(origin, b"tree", body)
    plant(origin, tree)
    error = failure(repositories().checkout, str(origin))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "too long or too deep" in error.detail
    assert list(scratch.iterdir()) == []


def hashed(origin: Path, kind: bytes, body: bytes) -> str:
    import hashlib
    import zlib

    whole = kind + b" %d\0" % len(body) + body
    name = hashlib.sha1(whole).hexdigest()
    file = origin / ".git" / "objects" / name[:2] / name[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(zlib.compress(whole))
    return name


def test_more_memory_than_git_may_have_is_said_with_its_setting(origin):
    commit(origin, big__bin=os.urandom(16_000_000))  # below `core.bigFileThreshold`, so it is not read piece by piece
    error = failure(repositories(max_memory=18_000_000, max_bytes=100_000_000).checkout, str(origin))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "18,000,000 bytes of memory for it (git.max_memory)" in error.detail


def test_a_git_that_floods_us_is_stopped(origin, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexec cat /dev/zero\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert failure(repositories().head, str(origin)).reason == Reason.TOO_LARGE


def test_an_honest_repository_of_many_and_of_large_files_is_read_whole(origin):
    for number in range(3_000):
        path = origin / f"folder{number % 50}" / f"file{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"print({number})\n")
    commit(origin, big__bin=os.urandom(20_000_000), long__txt="words " * 5_000_000)
    with repositories(max_bytes=200_000_000, timeout=200.0).checkout(str(origin)) as copy:
        assert sum(1 for path in copy.path.rglob("*.py")) == 3_000
        assert (copy.path / "big.bin").stat().st_size == 20_000_000


def test_the_limits_are_those_of_the_config_unless_others_are_given():
    from inspect import signature

    from llm_engineering.features.config import GitConfig

    built, config = signature(GitRepositories).parameters, GitConfig()
    assert (built["max_files"].default, built["max_memory"].default) == (config.max_files, config.max_memory)


def test_git_and_its_helpers_know_no_secret_of_ours(origin, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nenv > {tmp_path / 'seen'}\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in ("TWIN_LINKEDIN_PASSWORD", "OPENAI_API_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "https_proxy"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("GIT_SSL_CAINFO", "/a/certificate")
    failure(repositories().head, str(origin))
    seen = (tmp_path / "seen").read_text()
    assert "s3cret" not in seen
    assert "GIT_SSL_CAINFO=/a/certificate" in seen
    assert f"HOME={tmp_path}" in seen


@pytest.mark.parametrize("url", ["ssh://a.example:x/y", "ssh://[::1:2/y", "git@[::1:x", "https://[", "https://a:b:c/"])
def test_an_address_that_cannot_be_taken_apart_is_a_bad_link(url):
    assert failure(repositories().head, url).reason == Reason.BAD_LINK


@pytest.fixture
def endless_git(tmp_path, monkeypatch) -> Path:
    """A git that starts a child and never ends; the file in which it says who they are."""
    programs, pids = tmp_path / "bin", tmp_path / "pids"
    programs.mkdir()
    (programs / "git").write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! > {pids}\nwait\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return pids


def test_a_git_that_takes_too_long_is_a_timeout_that_leaves_nothing(origin, endless_git, scratch):
    error = failure(repositories(timeout=0.2).head, str(origin))
    assert (error.reason, error.retry) == (Reason.TIMEOUT, True)
    assert "0.2 s" in error.detail
    assert list(scratch.iterdir()) == []


LIMITS = RepositoryLimits(seconds=60.0, bytes=1_000_000, files=1_000, memory=1_000_000_000)


class UntilWritten(Deadline):
    """Time is up as soon as the file is whole, however slowly the machine comes to it."""

    def __init__(self, file: Path) -> None:
        super().__init__(0)
        self.file = file

    def left(self) -> float:
        if self.file.exists() and self.file.read_text().endswith("\n"):
            raise FetchTimeout
        return 1.0


def test_a_git_that_is_stopped_is_killed_with_its_children(endless_git, scratch):
    git = GitProcess("x", (), home=scratch, deadline=UntilWritten(endless_git), limits=LIMITS)
    with pytest.raises(FetchError):
        git("status")
    for pid in endless_git.read_text().split():
        until(lambda pid=pid: not _alive(int(pid)))


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_machine_without_git_is_told_what_to_install(origin, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = failure(repositories().head, str(origin))
    assert (error.reason, error.retry) == (Reason.GIT, False)
    assert "apt install git" in error.detail


# --- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def served(site, origin):
    """`origin` behind git's own HTTP server, as /repo.git."""

    def backend(request) -> Answer:
        path, _, query = request.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(origin.parent), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.replace("/repo.git", "/origin/.git"), "QUERY_STRING": query,
            "REQUEST_METHOD": "POST" if request.body else "GET", "CONTENT_LENGTH": str(len(request.body)),
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "HTTP_GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=request.body, env=environment, capture_output=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return Answer(int(headers.pop("Status", "200").split()[0]), body, headers)

    for path in ("/repo.git/info/refs", "/repo.git/git-upload-pack"):
        site.route(path, backend)
    return site


def reaching(site, **options) -> GitRepositories:
    return repositories(
        **{"allow_hosts": (f"127.0.0.1:{site.port}", f"one.example:{site.port}"), "resolve": site.resolve, **options}
    )


def test_a_repository_is_read_over_http_at_the_address_that_was_checked(served, origin):
    tip = commit(origin, README__md="# served")
    url = served.url("/repo.git", host="one.example")  # no name server knows it: git must use the pinned address
    assert reaching(served).head(url) == tip
    with reaching(served).checkout(url) as copy:
        assert (copy.path / "README.md").read_text() == "# served"


def test_a_repository_that_has_moved_is_followed(served, origin):
    tip = commit(origin, a__txt="x")
    served.route(
        "/old/info/refs",
        lambda request: Answer(301, headers={"Location": "/repo.git/info/refs?service=git-upload-pack"}),
    )
    assert reaching(served).head(served.url("/old")) == tip


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://10.0.0.1/x/info/refs?service=git-upload-pack", Reason.BLOCKED_ADDRESS),
        ("file:///etc/info/refs?service=git-upload-pack", Reason.BAD_LINK),
        ("/login", Reason.GIT),
        ("/moved/info/refs?service=git-upload-pack", Reason.REDIRECT_LOOP),
        ("http://[", Reason.BAD_LINK),
        ("http://xn--a/", Reason.BAD_LINK),
    ],
)
def test_a_repository_may_not_redirect_just_anywhere(site, location, reason):
    from llm_engineering.infrastructure.fetchers.ssrf_guard import resolve

    site.redirect("/moved/info/refs", location)
    error = failure(reaching(site, resolve=resolve).head, site.url("/moved"))
    assert error.reason == reason
    assert not error.retry


@pytest.mark.parametrize(
    ("status", "reason", "retry"),
    [(401, Reason.GIT, False), (403, Reason.GIT, False), (404, Reason.NOT_FOUND, False), (410, Reason.NOT_FOUND, False),
     (429, Reason.GIT, True), (503, Reason.GIT, True), (400, Reason.GIT, False)],
)  # fmt: skip
def test_what_a_server_says_instead_has_its_reason_and_nobody_is_asked_for_a_password(site, status, reason, retry):
    site.page("/x/info/refs", "", status=status, headers={"WWW-Authenticate": 'Basic realm="x"'})
    error = failure(reaching(site).head, site.url("/x"))
    assert (error.reason, error.retry) == (reason, retry)


def test_a_page_that_is_no_repository_is_a_git_error(site):
    site.page("/x/info/refs", "<p>hello")
    assert failure(reaching(site).head, site.url("/x")).reason == Reason.GIT


def test_a_server_that_never_answers_is_a_timeout(site):
    import threading

    done = threading.Event()
    site.wire("/x/info/refs?service=git-upload-pack", lambda wire: done.wait(30))
    error = failure(reaching(site, timeout=0.3).head, site.url("/x"))
    done.set()
    assert (error.reason, error.retry) == (Reason.TIMEOUT, True)


def test_a_machine_without_room_for_a_copy_is_that_links_failure(origin, monkeypatch, tmp_path):
    commit(origin, a__txt="x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for work in (repositories().head, repositories().checkout):
        error = failure(work, str(origin))
        assert (error.reason, error.retry) == (Reason.INTERNAL_ERROR, True)
        assert "on this machine: " in error.detail
