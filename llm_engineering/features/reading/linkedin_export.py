"""LinkedIn's data export ("Get a copy of your data"): posts in Shares.csv, articles as HTML pages or Articles.csv."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.links import canonical_link
from llm_engineering.features.reading.archive import Archive, ArchiveError
from llm_engineering.features.source import Page, Skipped

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

    from lxml.html import HtmlElement

DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m/%d/%y, %I:%M %p",
         "%m/%d/%Y %H:%M", "%m/%d/%Y")  # fmt: skip
_DATED = re.compile(r"(published|created) on\s+(\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?)", re.IGNORECASE)


class ExportError(Exception):
    """Which row of which file says what it should not."""


def pages(archive: Archive) -> Iterator[Page | Skipped]:
    """Posts, then articles. What cannot be read of it is named at the end, when all else was given: raises ExportError
    for a row or a file, and ArchiveError when nothing of an export is in there."""
    shares = [name for name in archive.names if _is_named(name, "shares.csv")]
    tables = [name for name in archive.names if _is_named(name, "articles.csv")]
    articles = [name for name in archive.names if _is_article(name)]
    if not shares + tables + articles:
        raise ArchiveError("neither Shares.csv nor Articles in it; is this LinkedIn's data export?")
    failed: list[Exception] = []
    for name, needed, made in (
        *((name, ("date", "sharelink"), _post) for name in shares),
        *((name, ("content", "url"), _entry) for name in tables),
    ):
        for number, row in _rows(name, archive, needed, failed):
            if page := _tried(failed, made, name, number, row):
                yield page
    for name in articles:
        if page := _tried(failed, _article, name, archive):
            yield page
    if failed:
        more = f" (and {len(failed) - 1} more that cannot be read)" if len(failed) > 1 else ""
        raise ExportError(f"{failed[0]}{more}")


def _tried(failed: list[Exception], made: Callable[..., Page | Skipped], *given: object) -> Page | Skipped | None:
    """None for what cannot be read, which joins the `failed`: it ends nothing but itself."""
    try:
        return made(*given)
    except (ExportError, ArchiveError) as error:
        failed.append(error)
        return None


def _is_named(name: str, wanted: str) -> bool:
    return PurePosixPath(name).name.lower() == wanted


def _is_article(name: str) -> bool:
    path = PurePosixPath(name)
    inside = any(part.lower() == "articles" for part in path.parts[:-1])
    return inside and path.suffix.lower() in (".html", ".htm") and not path.name.startswith(".")


def _post(name: str, number: int, row: Mapping[str, str]) -> Page | Skipped:
    text = unquoted(row.get("sharecommentary") or "").strip()
    if not text:
        return Skipped("shared without a word")
    published = _date(name, number, row["date"])
    extra = {key: row[key] for key in ("sharedurl", "mediaurl", "visibility") if row.get(key)}
    link = _link(name, number, row["sharelink"])
    return Page(
        link=link, url=link, title=f"LinkedIn post of {published:%Y-%m-%d}", body=text, media_type="text/plain",
        published_at=published, kind=Kind.POST, meta=extra,
    )  # fmt: skip


def _entry(name: str, number: int, row: Mapping[str, str]) -> Page | Skipped:
    if not row["content"].strip():
        return Skipped("article without text")
    link = _link(name, number, row["url"])
    date = row.get("publisheddate") or row.get("published") or row.get("date") or row.get("createddate")
    html = "<" in row["content"] and ">" in row["content"]
    return Page(
        link=link, url=link, title=row.get("title") or "", body=row["content"], kind=Kind.ARTICLE,
        media_type="text/html" if html else "text/plain", published_at=_date(name, number, date) if date else None,
    )  # fmt: skip


def _article(name: str, archive: Archive) -> Page:
    from llm_engineering.features.cleaning.page import parse

    text = _text(name, archive.read(name))
    root = parse(text)
    if root is None:
        raise ExportError(f"{name}: there is no HTML in it")
    heading = next((found for tag in ("h1", "title") if (found := next(root.iter(tag), None)) is not None), None)
    link = next((a.get("href") or "" for a in root.iter("a") if _leads_to_linkedin(a)), "")
    link = _link(name, 1, link or f"https://www.linkedin.com/pulse/{quote(PurePosixPath(name).stem)}")
    dates = {word.lower(): date for word, date in _DATED.findall(" ".join(root.itertext()))}
    published = dates.get("published") or dates.get("created")
    return Page(
        link=link, url=link, title="" if heading is None else " ".join(" ".join(heading.itertext()).split()), body=text,
        published_at=_date(name, 1, published) if published else None, kind=Kind.ARTICLE, meta={"file": name},
    )  # fmt: skip


def _leads_to_linkedin(anchor: "HtmlElement") -> bool:
    """The title's link, or any to an article."""
    link = anchor.get("href") or ""
    in_title = "linkedin.com/" in link and next(anchor.iterancestors("h1"), None) is not None
    return in_title or "linkedin.com/pulse/" in link


def _rows(
    name: str, archive: Archive, needed: tuple[str, ...], failed: list[Exception]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows with their number in the file, keys in lower case without spaces. Notes above the header are passed over,
    and rows that are none join the `failed`."""
    try:
        data = archive.read(name)
        text = _text(name, data)
    except (ExportError, ArchiveError) as error:
        failed.append(error)
        return
    # an article may be longer than the 128 KiB that csv allows; the limit is the whole process's, so it only grows
    csv.field_size_limit(max(csv.field_size_limit(), len(data) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while (row := _row(name, reader, failed)) is not None:
        if not header:
            keys = [re.sub(r"[^a-z0-9]", "", key.lower()) for key in row]
            header = keys if set(needed) <= set(keys) else []
        elif any(cell.strip() for cell in row):
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            else:
                why = f"{len(row)} fields where {len(header)} belong"
                failed.append(ExportError(f"{name}, line {reader.line_num}: {why}"))
    if not header:
        failed.append(ExportError(f"{name}: no header with {' and '.join(needed)}"))


def _row(name: str, reader: "CsvReader", failed: list[Exception]) -> list[str] | None:
    """None at the end; [] for a line that is no row."""
    try:
        return next(reader, None)
    except csv.Error as error:
        failed.append(ExportError(f"{name}, line {reader.line_num}: {error}"))
        return []


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
    try:
        if not text.strip().startswith(("https://", "http://")):
            raise ValueError
        canonical_link(text)
    except (ValueError, SourceError):
        raise ExportError(f"{name}, line {number}: {text[:80]!r} is no link") from None
    return text.strip()
