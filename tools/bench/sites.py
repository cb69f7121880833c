"""Web sites for the benchmarks, in a process of their own so that they do not share the crawler's interpreter lock.

Every path ends in a number and holds an article of its own; every article has an ETag. `python -m tools.bench.sites
LATENCY` prints the port it listens on.
"""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.bootstrap import open_sandbox
from llm_engineering.features.config import AuthorConfig, BudgetConfig, FetchConfig, LinkSpec

if TYPE_CHECKING:
    from llm_engineering.domain.ports import FetchContext

HOSTS = tuple(f"site{number}.example" for number in range(10))
WORDS = (
    "reader", "writer", "page", "model", "index", "vector", "token", "answer", "author", "corpus", "passage", "crawler",
    "store", "sentence", "question", "meaning", "search", "memory", "engine", "answerer",
)  # fmt: skip


@contextmanager
def serving(*, latency: float = 0.0) -> Generator[int]:
    """The port of a server that is every host and waits `latency` seconds before each answer."""
    command = [sys.executable, "-m", "tools.bench.sites", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as server:
        try:
            port = server.stdout.readline() if server.stdout else ""
            if not port:
                raise RuntimeError("the loopback server did not start")
            yield int(port)
        finally:
            server.terminate()


def author_of(port: int, pages: int, hosts: tuple[str, ...] = HOSTS) -> AuthorConfig:
    """An author of so many pages, spread over the hosts."""
    addresses = (f"http://{hosts[number % len(hosts)]}:{port}/articles/{number}" for number in range(pages))
    return AuthorConfig(name="Bench", links=tuple(LinkSpec(address=address) for address in addresses))


@contextmanager
def loopback_context() -> Generator["FetchContext"]:
    """The real fetcher with the defaults of a config, for which every name is here."""
    from llm_engineering.domain.ports import FetchContext
    from llm_engineering.infrastructure.fetchers.git import GitRepositories
    from llm_engineering.infrastructure.fetchers.http import HttpFetcher

    config = FetchConfig(allow_hosts=HOSTS).model_dump(exclude={"concurrency"})
    fetcher = HttpFetcher(**config, resolve=lambda host, port: ["127.0.0.1"])
    try:
        with open_sandbox(BudgetConfig()) as sandbox:
            yield FetchContext(
                fetch=fetcher,
                browser=_no_browser,
                repositories=GitRepositories(timeout=1, max_bytes=1),
                sandbox=sandbox,
            )
    finally:
        fetcher.close()


def _no_browser():
    raise RuntimeError("a page of this benchmark needs no browser")


async def serve(latency: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await asyncio.sleep(latency)
                writer.write(response(head.split(" ", 2)[1], head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the crawler has gone

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def response(path: str, head: str) -> bytes:
    if path == "/robots.txt":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    etag = f'"{hashlib.sha256(path.encode()).hexdigest()[:16]}"'
    if etag in head:
        return f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode()
    number = int(path.rpartition("/")[2])
    paragraphs = "".join(f"<p>{sentence(number, row)}</p>\n" for row in range(20))
    body = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Article {number}</title></head>"
        f"<body><nav><a href=/>Home</a></nav><article><h1>Article {number}</h1>\n{paragraphs}</article></body></html>"
    ).encode()
    kind = "Content-Type: text/html; charset=utf-8"
    return f"HTTP/1.1 200 OK\r\n{kind}\r\nETag: {etag}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def sentence(number: int, row: int) -> str:
    """Some 180 characters that no other page has."""
    words = (WORDS[(number * (row + 3) + place * (row + 1)) % len(WORDS)] for place in range(24))
    return f"In part {row} of {number}: {' '.join(words)}."


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
