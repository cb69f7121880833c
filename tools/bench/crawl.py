"""How fast pages arrive in the warehouse: many hosts at once against the same fetcher one page at a time."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from llm_engineering.bootstrap import build_warehouse
from llm_engineering.domain.ports import Reach
from llm_engineering.features.config import AuthorConfig, FetchConfig
from llm_engineering.features.crawl import crawl_author
from tools.bench.result import Bar, Benchmark

HOSTS = tuple(f"site{number}.example" for number in range(10))
LATENCY = 0.2  # seconds before each answer
PAGES = 500
PAGES_IN_A_ROW = 40
SENTENCE = "the crawler reads a page and keeps what it found so that nobody has to read it twice again"


class Crawl(NamedTuple):
    pages: int
    seconds: float

    @property
    def rate(self) -> float:
        """Pages in the warehouse per second."""
        return self.pages / self.seconds


def measure(*, pages: int = PAGES, in_a_row: int = PAGES_IN_A_ROW) -> Benchmark:
    """Both crawls against the same server, the real crawl into a real SQLite file, with the defaults of a config."""
    with serving() as port, tempfile.TemporaryDirectory() as folder:
        crawl(port, Path(folder) / "warm-up.db", HOSTS[:1], pages=4, concurrency=4)
        few = HOSTS[: max(1, in_a_row * len(HOSTS) // pages)]  # as many pages per robots.txt as below
        alone = crawl(port, Path(folder) / "alone.db", few, pages=in_a_row, concurrency=1)
        concurrency = FetchConfig().concurrency
        together = crawl(port, Path(folder) / "together.db", HOSTS, pages=pages, concurrency=concurrency)
    return Benchmark(
        name="crawl",
        bars=(
            Bar(what="pages to the warehouse", value=together.rate, unit="pages/s", at_least=50),
            Bar(what="against one page at a time", value=together.rate / alone.rate, unit="x", at_least=10),
        ),
        figures={
            "together": f"{together.pages} pages of {len(HOSTS)} hosts in {together.seconds:.2f} s",
            "one at a time": f"{alone.pages} pages in {alone.seconds:.2f} s, {alone.rate:.2f} pages/s",
            "per host": f"{FetchConfig().per_host} at a time, {LATENCY * 1000:.0f} ms per answer",
        },
    )


def crawl(port: int, warehouse_file: Path, hosts: tuple[str, ...], *, pages: int, concurrency: int) -> Crawl:
    """Raises RuntimeError when a page is missing afterwards: a fast crawl that loses pages is no figure."""
    from llm_engineering.infrastructure.fetchers.git import GitRepositories
    from llm_engineering.infrastructure.fetchers.http import HttpFetcher

    links = [f"http://{hosts[number % len(hosts)]}:{port}/articles/{number}" for number in range(pages)]
    config = FetchConfig(allow_hosts=HOSTS).model_dump(exclude={"concurrency"})
    fetcher = HttpFetcher(**config, resolve=lambda host, port: ["127.0.0.1"])
    warehouse, ledger = build_warehouse(f"sqlite:///{warehouse_file}")
    try:
        began = time.perf_counter()
        crawl_author(
            AuthorConfig(name="Bench", links=links),
            reach=Reach(fetch=fetcher, browser=_no_browser, repositories=GitRepositories(timeout=1, max_bytes=1)),
            warehouse=warehouse,
            ledger=ledger,
            concurrency=concurrency,
            min_success_rate=1.0,
        )
        seconds = time.perf_counter() - began
        if (stored := warehouse.count()) != pages:
            raise RuntimeError(f"{stored} of {pages} pages are in the warehouse")
    finally:
        fetcher.close()
        warehouse.close()
    return Crawl(pages, seconds)


def _no_browser():
    raise RuntimeError("a page of this benchmark needs no browser")


# --- the sites, in a process of their own so that they do not share the crawler's interpreter lock --------------


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server that is every host."""
    command = [sys.executable, "-m", "tools.bench.crawl", "serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        port = server.stdout.readline()
        if not port:
            raise RuntimeError("the loopback server did not start")
        yield int(port)
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


async def serve() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            await asyncio.sleep(LATENCY)
            writer.write(response(path))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()  # the crawler has gone


def response(path: str) -> bytes:
    if path == "/robots.txt":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    number = int(path.rpartition("/")[2])
    words = SENTENCE.split()
    turned = words[number % len(words) :] + words[: number % len(words)]
    paragraphs = "".join(f"<p>{' '.join(turned)}, {number} and {row}.</p>\n" for row in range(60))
    body = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Article {number}</title></head>"
        f"<body><nav><a href=/>Home</a></nav><article><h1>Article {number}</h1>\n{paragraphs}</article></body></html>"
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        print(measure().model_dump_json(indent=2))
