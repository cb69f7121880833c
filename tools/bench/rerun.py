"""What a second run costs when nothing has changed: etl and features, over pages served with an ETag."""

import asyncio
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from llm_engineering.bootstrap import build_embedder, open_platform
from llm_engineering.domain.ports import Embedder, Reach
from llm_engineering.domain.reports import CrawlReport, FeatureReport
from llm_engineering.features.config import AuthorConfig, FeatureConfig, FetchConfig
from llm_engineering.features.crawl import crawl_author
from llm_engineering.features.ingest import build_features
from llm_engineering.settings import Settings
from tools.bench.result import Bar, Benchmark

HOSTS = tuple(f"site{number}.example" for number in range(10))
PAGES = 500
WORDS = (
    "reader", "writer", "page", "model", "index", "vector", "token", "answer", "author", "corpus", "passage", "crawler",
    "store", "sentence", "question", "meaning", "search", "memory", "engine", "answerer",
)  # fmt: skip


class Run(NamedTuple):
    crawl: CrawlReport
    features: FeatureReport
    seconds: float

    @property
    def written(self) -> int:
        return self.crawl.documents_inserted + self.crawl.documents_updated + self.crawl.documents_deleted

    def in_words(self) -> str:
        parts = f"etl {self.crawl.seconds:.2f} s, features {self.features.seconds:.2f} s"
        return f"{self.seconds:.2f} s ({parts}), {self.features.chunks_total} chunks"


def measure(*, pages: int = PAGES, embedder: Embedder | None = None) -> Benchmark:
    """The same two calls twice, each with its stores opened afresh; the embedder is loaded before the first."""
    embedder = embedder or build_embedder(Settings(_env_file=None))
    embedder.embed(["loaded before the clock starts"])
    with serving() as port, tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, home=Path(folder), warehouse="", vectors="")
        first = run(settings, port, pages, embedder)
        second = run(settings, port, pages, embedder)
    if first.crawl.documents_inserted != pages or second.crawl.unchanged != pages:
        raise RuntimeError(f"the runs did not read what is served: {first.crawl!r} {second.crawl!r}")
    return Benchmark(
        name="rerun",
        bars=(
            Bar(what="bodies downloaded", value=second.crawl.bodies_downloaded, unit="bodies", at_most=0),
            Bar(what="documents written", value=second.written, unit="documents", at_most=0),
            Bar(what="chunks embedded", value=second.features.chunks_embedded, unit="chunks", at_most=0),
            Bar(what="wall against the first run", value=second.seconds / first.seconds, unit="x", at_most=0.10),
        ),
        figures={
            "first run": first.in_words(),
            "second run": second.in_words(),
            "documents": str(pages),
            "embedder": embedder.spec.model_id,
        },
    )


def run(settings: Settings, port: int, pages: int, embedder: Embedder) -> Run:
    from llm_engineering.infrastructure.fetchers.git import GitRepositories
    from llm_engineering.infrastructure.fetchers.http import HttpFetcher

    links = [f"http://{HOSTS[number % len(HOSTS)]}:{port}/articles/{number}" for number in range(pages)]
    began = time.perf_counter()
    config = FetchConfig(allow_hosts=HOSTS).model_dump(exclude={"concurrency"})
    fetcher = HttpFetcher(**config, resolve=lambda host, port: ["127.0.0.1"])
    with open_platform(settings) as twin:
        try:
            crawl = crawl_author(
                AuthorConfig(name="Bench", links=links),
                reach=Reach(fetch=fetcher, browser=_no_browser, repositories=GitRepositories(timeout=1, max_bytes=1)),
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                concurrency=FetchConfig().concurrency,
                min_success_rate=1.0,
            )
        finally:
            fetcher.close()
        features = build_features(
            warehouse=twin.warehouse, embedder=embedder, vectors=twin.vectors, config=FeatureConfig()
        )
    return Run(crawl, features, time.perf_counter() - began)


def _no_browser():
    raise RuntimeError("a page of this benchmark needs no browser")


# --- the site, in a process of its own so that it does not share the crawler's interpreter lock -----------------


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server that is every host."""
    command = [sys.executable, "-m", "tools.bench.rerun", "serve"]
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
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            etag = f'"{hashlib.sha256(path.encode()).hexdigest()[:16]}"'
            writer.write(response(path, etag, known=etag in head))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()  # the crawler has gone


def response(path: str, etag: str, *, known: bool) -> bytes:
    if path == "/robots.txt":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    if known:
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
    asyncio.run(serve())
