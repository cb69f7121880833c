"""Files on this machine: a folder, one file, or a pattern. Markdown, HTML, text, notebooks and PDF."""

import base64
import errno
import glob
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue
from w3lib.encoding import html_body_declared_encoding

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.reading.patterns import FilePatterns, patterns_of
from llm_engineering.features.source import Page, Skipped, Source, Target

MEDIA_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".mdx": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".txt": "text/plain",
    ".text": "text/plain",
    ".rst": "text/plain",
    ".ipynb": "application/x-ipynb+json",
    ".pdf": "application/pdf",
}
MAX_BYTES = 50_000_000  # of one file
GUESS_BYTES = 100_000  # of a file, to guess its charset from
SETTLED = 2.0  # seconds: a file changed this recently may change again within its time stamp


class FoundFile(NamedTuple):
    """Small, because a folder may hold a hundred thousand."""

    root: Path
    name: str  # below the root, with slashes
    size: int
    changed: int  # nanoseconds
    is_named: bool = False  # by the config itself, which may name a link

    @property
    def path(self) -> Path:
        return self.root / self.name


def crawl(target: Target, context: FetchContext) -> Iterator[Page | Skipped]:
    path = path_of(target.link)
    patterns = patterns_of(target)
    skipped: Counter[str] = Counter()
    refused: list[OSError] = []
    files = [one for one in _files(path, target.link, skipped, refused) if _wanted(one, patterns, skipped)]
    etag = None if refused else _fingerprint(files, target.options)
    if etag and etag == target.etag:
        raise NotModified(target.link)
    for one in files:
        try:
            page = _page(one, etag)
        except FileNotFoundError:
            page = Skipped("vanished")
        except OSError as error:
            refused.append(error)
            continue
        if isinstance(page, Page):
            yield page
        else:
            skipped[page.why] += 1
    yield from (Skipped(why, count) for why, count in skipped.items())
    if refused:  # not read whole, so that what cannot be read today is not taken for removed
        detail = f"{len(refused)} files or folders cannot be read, such as {refused[0].filename}: {refused[0].strerror}"
        raise SourceError(target.link, Reason.MISSING_FILE, detail, retry=True)


def link_of(address: str, options: Mapping[str, JsonValue]) -> str:
    """Of a path as a person writes it, relative to the working folder, or of a file:// link."""
    if address.startswith("file:"):
        return canonical_link(address)
    return canonical_link(Path(os.path.abspath(Path(address).expanduser())).as_uri())  # noqa: PTH100 (keeps symlinks)


def path_of(link: str) -> Path:
    return Path(unquote(urlsplit(link).path))


def _files(path: Path, link: str, skipped: Counter[str], refused: list[OSError]) -> Iterator[FoundFile]:
    """Every readable file at or below `path`, by name; never out of the root through a symbolic link."""
    if path.is_dir():
        yield from _below(path, path.resolve(), "", skipped, refused)
    elif path.is_file():
        yield _found_file(path.parent, path.name)._replace(is_named=True)
    elif glob.has_magic(str(path)):
        matches = sorted(_matching(path))
        if not matches:
            raise SourceError(link, Reason.MISSING_FILE, f"nothing matches {path}", retry=False)
        for match in matches:
            chosen = _chosen(path, match)
            if any(one.is_symlink() for one in chosen):
                skipped["symlink"] += 1
            elif any(one.name.startswith(".") for one in chosen):
                skipped["hidden"] += 1
            elif match.is_file():
                yield _found_file(match.parent, match.name)
    else:
        raise SourceError(link, Reason.MISSING_FILE, f"there is no {path}", retry=False)


def _matching(pattern: Path) -> Iterator[Path]:
    fixed = _fixed(pattern)
    return fixed.glob(str(pattern.relative_to(fixed)))


def _fixed(pattern: Path) -> Path:
    """The folder it begins in."""
    return next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))


def _chosen(pattern: Path, match: Path) -> list[Path]:
    """What the pattern chose on the way to `match`: it, and the folders above it that the config does not name."""
    return [match, *(parent for parent in match.parents if _fixed(pattern) in parent.parents)]


def _below(root: Path, folder: Path, above: str, skipped: Counter[str], refused: list[OSError]) -> Iterator[FoundFile]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        refused.append(error)
        return
    for entry in entries:
        name = f"{above}{entry.name}"
        if entry.name.startswith("."):
            skipped["hidden"] += 1
        elif entry.is_symlink():
            skipped["symlink"] += 1
        elif entry.is_dir():
            yield from _below(root, folder / entry.name, f"{name}/", skipped, refused)
        elif entry.is_file():
            status = entry.stat()
            yield FoundFile(root, name, status.st_size, status.st_mtime_ns)
        else:
            skipped["no regular file"] += 1


def _found_file(root: Path, name: str) -> FoundFile:
    status = (root / name).stat()
    return FoundFile(root, name, status.st_size, status.st_mtime_ns)


def _wanted(one: FoundFile, patterns: FilePatterns, skipped: Counter[str]) -> bool:
    if PurePath(one.name).suffix.lower() not in MEDIA_TYPES:
        skipped["other type"] += 1
    elif one.size > MAX_BYTES:
        skipped["too large"] += 1
    elif not patterns.want(one.name):
        skipped["excluded"] += 1
    else:
        return True
    return False


def _fingerprint(files: list[FoundFile], options: Mapping[str, JsonValue]) -> str | None:
    """Of names, sizes and times; None while a file is so fresh that another edit could keep all three."""
    if any(time.time() - one.changed / 1e9 < SETTLED for one in files):
        return None
    parts = [f"{one.name}\x1f{one.size}\x1f{one.changed}" for one in files]
    return content_hash(repr(sorted(options.items())), *parts)


def _page(one: FoundFile, etag: str | None) -> Page | Skipped:
    data = _read(one)
    if data is None:
        return Skipped("symlink")
    uri, suffix = one.path.as_uri(), one.path.suffix.lower()
    page = Page(url=uri, link=uri, body="", media_type=MEDIA_TYPES[suffix], etag=etag, meta={"path": one.name})
    if suffix == ".pdf":
        if not data.startswith(b"%PDF-"):
            return Skipped("no PDF inside")
        return page._replace(body=base64.b64encode(data).decode(), encoding="base64")
    text = decoded(data)
    if text is None:
        return Skipped("binary")
    return page._replace(body=text) if text.strip() else Skipped("empty")


def _read(one: FoundFile) -> bytes | None:
    """None when it became a link since it was found, or something that is no file."""
    try:
        handle = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK | (0 if one.is_named else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return file.read(MAX_BYTES)


def decoded(data: bytes) -> str | None:
    """UTF-8, or what its byte order mark, its own declaration or its bytes say; None for what is no text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if b"\x00" in data[:8192]:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if declared := html_body_declared_encoding(data):
        try:
            return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass  # wrongly declared, so the bytes decide
    from charset_normalizer import from_bytes

    best = from_bytes(data[:GUESS_BYTES]).best()
    return None if best is None else data.decode(best.encoding, "replace")


SOURCE = Source(
    name="local_files",
    kind=Kind.ARTICLE,
    crawl=crawl,
    owns=lambda link: link.startswith("file:"),
    link_of=link_of,
    options=("include", "exclude"),
    complete=True,
)
