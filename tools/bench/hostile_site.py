"""The good ones, and a server on loopback that has them and the hostile ones. It sends whatever an item says."""

import socketserver
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Literal, NamedTuple

from tools.bench.attacks import Item

THINGS = (
    "abacus", "bellows", "compass", "dynamo", "easel", "ferry", "gimbal", "hourglass", "inkwell", "jetty", "kiln",
    "lathe", "mandolin", "nib", "oboe", "pulley", "quill", "rudder", "sextant", "trellis",
)  # fmt: skip
Kind = Literal["page", "listed", "file"]


class Good(NamedTuple):
    """What a person wants to find again. One that is "listed" is known from a feed or a sitemap only."""

    name: str
    kind: Kind
    text: str
    sentence: str  # that no other has

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}/good/{self.name}"


def _good(number: int, thing: str) -> Good:
    sentence = f"The {thing} of number {number} was mended by hand before the {thing} of its neighbour was even seen."
    rest = f"Nobody who has looked after a {thing} forgets how it sounds on a quiet morning, {thing} or not."
    if number < 8:
        return Good(f"{thing}.md", "file", f"# About the {thing}\n\n{sentence}\n\n{rest}\n", sentence)
    body = f"<article><h1>About the {thing}</h1><p>{sentence}</p><p>{rest}</p></article>"
    text = f"<!doctype html><html lang=en><head><title>About the {thing}</title></head><body>{body}</body></html>"
    return Good(f"{thing}.html", "page" if number < 16 else "listed", text, sentence)


GOOD = tuple(_good(number, thing) for number, thing in enumerate(THINGS))


@contextmanager
def serving(items: tuple[Item, ...]) -> Generator[int]:
    """The port."""
    served = {f"/hostile/{item.name}": _made(item) for item in items if item.kind in ("page", "feed")}
    with _Server(("127.0.0.1", 0), _Answering) as server:
        server.served, server.good = served, _good_answers(server.server_address[1])
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _made(item: Item) -> Callable[[], Iterable[bytes]]:
    """What is sent for it, made before anybody asks and waits."""
    if item.wire:
        return item.answer
    made = list(item.answer())
    return lambda: made


def _good_answers(port: int) -> dict[str, bytes]:
    pages = {f"/good/{good.name}": good.text for good in GOOD if good.kind != "file"}
    listed = [good.url(port) for good in GOOD if good.kind == "listed"]
    items = "".join(f"<item><title>x</title><link>{link}</link></item>" for link in listed[::2])
    places = "".join(f"<url><loc>{link}</loc></url>" for link in listed[1::2])
    pages["/good/feed.xml"] = f'<rss version="2.0"><channel><title>x</title>{items}</channel></rss>'
    pages["/good/sitemap.xml"] = f"<urlset>{places}</urlset>"
    return {path: text.encode() for path, text in pages.items()}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    served: Mapping[str, Callable[[], Iterable[bytes]]]
    good: Mapping[str, bytes]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is right to."""


class _Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        self.request.settimeout(30)
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := self.request.recv(65_536)):
                return
            head += more
        path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
        if answer := self.server.served.get(path):
            for piece in answer():
                self.request.sendall(piece)
            return
        data = self.server.good.get(path)
        status, media = ("404 -", "text/plain") if data is None else ("200 OK", _media(path))
        data = data or b"nothing here"
        start = (
            f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        self.request.sendall(start.encode() + data)


def _media(path: str) -> str:
    return "application/xml" if path.endswith(".xml") else "text/html; charset=utf-8"
