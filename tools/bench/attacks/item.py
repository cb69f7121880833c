"""What a hostile item is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "page", "feed", "export"]

MEGABYTE = 1_000_000
HTML = "text/html; charset=utf-8"
PROSE = (
    "Whoever reads this page wants to know what became of the lantern in the harbour, and the page says so in a few "
    "plain sentences: it was lit in the first week of winter, it burned until the ships were home, and the keeper "
    "wrote down every night what it had cost in oil. Nothing here is hostile; what stands around it is."
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """`make` gives the bytes. A "file" lies in a folder under its name; a "page" and a "feed" (which may be a sitemap)
    are served; an "export" is a zip of LinkedIn's. `wire`, where there is one, is all that a server sends instead."""

    name: str
    kind: Kind
    make: Callable[[], bytes] = bytes
    media_type: str = HTML
    headers: tuple[tuple[str, str], ...] = ()
    wire: Callable[[], Iterator[bytes]] | None = None

    def answer(self) -> Iterator[bytes]:
        """What a server sends for it."""
        if self.wire:
            yield from self.wire()
            return
        data = self.make()
        fixed = (("Content-Type", self.media_type), ("Content-Length", str(len(data))), ("Connection", "close"))
        yield head(200, *fixed, *self.headers) + data


def head(status: int, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encoded(text: Callable[[], str | bytes]) -> Callable[[], bytes]:
    def make() -> bytes:
        made = text()
        return made.encode() if isinstance(made, str) else made

    return make


def file_item(name: str, text: Callable[[], str | bytes]) -> Item:
    return Item(name=name, kind="file", make=encoded(text))


def page_of(title: str, body: str = "", head: str = "") -> bytes:
    """An article of two paragraphs, with what is hostile behind it or in its head."""
    return (
        f"<!doctype html><html lang=en><head><title>{title}</title>{head}</head><body><article><h1>{title}</h1>"
        f"<p>{PROSE}</p><p>{PROSE[::-1]}</p>{body}</article></body></html>"
    ).encode()
