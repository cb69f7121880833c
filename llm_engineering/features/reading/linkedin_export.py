"""LinkedIn's data export ("Get a copy of your data"): posts in Shares.csv, articles as HTML pages or Articles.csv."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath

from llm_engineering.domain.documents import Kind
from llm_engineering.features.reading.archive import Archive, ArchiveError
from llm_engineering.features.source import Page, Skipped

DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m/%d/%y, %I:%M %p",
         "%m/%d/%Y %H:%M", "%m/%d/%Y")  # fmt: skip
_DATED = re.compile(r"(published|created) on\s+(\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?)", re.IGNORECASE)


class ExportError(Exception):
    """Which row of which file says what it should not."""


def pages(archive: Archive) -> Iterator[Page | Skipped]:
    """Posts, then articles. Raises ExportError, and ArchiveError when nothing of an export is in there."""
    shares = [name for name in archive.names if _is_named(name, "shares.csv")]
    tables = [name for name in archive.names if _is_named(name, "articles.csv")]
    articles = [name for name in archive.names if _is_article(name)]
    if not shares + tables + articles:
        raise ArchiveError("neither Shares.csv nor Articles in it; is this LinkedIn's data export?")
    for name in shares:
        yield from _posts(name, archive.read(name))
    for name in tables:
        yield from _table(name, archive.read(name))
    for name in articles:
        yield _article(name, archive.read(name))


def _is_named(name: str, wanted: str) -> bool:
    return PurePosixPath(name).name.lower() == wanted


def _is_article(name: str) -> bool:
    path = PurePosixPath(name)
    inside = any(part.lower() == "articles" for part in path.parts[:-1])
    return inside and path.suffix.lower() in (".html", ".htm") and not path.name.startswith(".")


def _posts(name: str, data: bytes) -> Iterator[Page | Skipped]:
    for number, row in _rows(name, data, needed=("date", "sharelink")):
        text = unquoted(row.get("sharecommentary") or "").strip()
        if not text:
            yield Skipped("shared without a word")
            continue
        published = _date(name, number, row["date"])
        extra = {key: row[key] for key in ("sharedurl", "mediaurl", "visibility") if row.get(key)}
        link = _link(name, number, row["sharelink"])
        yield Page(
            link=link, url=link, title=f"LinkedIn post of {published:%Y-%m-%d}", body=text, media_type="text/plain",
            published_at=published, kind=Kind.POST, meta=extra,
        )  # fmt: skip


def _table(name: str, data: bytes) -> Iterator[Page | Skipped]:
    for number, row in _rows(name, data, needed=("content", "url")):
        if not row["content"].strip():
            yield Skipped("article without text")
            continue
        link = _link(name, number, row["url"])
        date = row.get("publisheddate") or row.get("published") or row.get("date") or row.get("createddate")
        html = "<" in row["content"] and ">" in row["content"]
        yield Page(
            link=link, url=link, title=row.get("title") or "", body=row["content"], kind=Kind.ARTICLE,
            media_type="text/html" if html else "text/plain", published_at=_date(name, number, date) if date else None,
        )  # fmt: skip


def _article(name: str, data: bytes) -> Page:
    from bs4 import BeautifulSoup

    text = _text(name, data)
    soup = BeautifulSoup(text, "html.parser")
    heading = soup.find("h1") or soup.find("title")
    anchor = soup.select_one('h1 a[href*="linkedin.com/"], a[href*="linkedin.com/pulse/"]')
    link = str(anchor["href"]) if anchor else f"https://www.linkedin.com/pulse/{PurePosixPath(name).stem}"
    dates = {word.lower(): date for word, date in _DATED.findall(soup.get_text(" "))}
    published = dates.get("published") or dates.get("created")
    return Page(
        link=link, url=link, title=" ".join(heading.get_text(" ").split()) if heading else "", body=text,
        published_at=_date(name, 1, published) if published else None, kind=Kind.ARTICLE, meta={"file": name},
    )  # fmt: skip


def _rows(name: str, data: bytes, *, needed: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows with their number in the file, keys in lower case without spaces. Notes above the header are passed over."""
    # an article may be longer than the 128 KiB that csv allows; the limit is the whole process's, so it only grows
    csv.field_size_limit(max(csv.field_size_limit(), len(data) + 1))
    reader = csv.reader(io.StringIO(_text(name, data), newline=""), strict=True)
    header: list[str] = []
    try:
        for row in reader:
            keys = [re.sub(r"[^a-z0-9]", "", key.lower()) for key in row]
            if not header:
                header = keys if set(needed) <= set(keys) else []
            elif any(cell.strip() for cell in row):
                if len(row) != len(header):
                    raise ExportError(f"{name}, line {reader.line_num}: {len(row)} fields where {len(header)} belong")
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ExportError(f"{name}, line {reader.line_num}: {error}") from None
    if not header:
        raise ExportError(f"{name}: no header with {' and '.join(needed)}")


def unquoted(text: str) -> str:
    """LinkedIn puts quotes around every line of a post, not around the post: `a"NEWLINE""NEWLINE"b` is `a`, ``, `b`."""
    lines = text.replace("\r\n", "\n").split("\n")
    joints = list(pairwise(lines))
    if not joints or not all(above.endswith('"') and below.startswith('"') for above, below in joints):
        return text
    last = len(lines) - 1
    return "\n".join(line[1 if place else 0 : -1 if place < last else None] for place, line in enumerate(lines))


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(f"{name}: not UTF-8 at byte {error.start}") from None


def _date(name: str, number: int, text: str) -> datetime:
    for form in DATES:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ExportError(f"{name}, line {number}: {text[:40]!r} is no date")


def _link(name: str, number: int, text: str) -> str:
    if not text.strip().startswith(("https://", "http://")):
        raise ExportError(f"{name}, line {number}: {text[:80]!r} is no link")
    return text.strip()
