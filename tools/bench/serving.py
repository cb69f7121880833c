"""The API under load, and what serving costs: start, memory, tracing, the import."""

import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.bootstrap import build_embedder, build_vector_store, open_platform
from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec
from llm_engineering.domain.documents import Author, Kind
from llm_engineering.domain.errors import ConfigError
from llm_engineering.domain.ids import stable_id
from llm_engineering.inference.config import AskConfig, RetrievalConfig
from llm_engineering.serving.api.service import Service
from llm_engineering.settings import Settings
from tools.bench.imports import imported
from tools.bench.result import Bar, Benchmark

FEW, MANY = 10_000, 100_000  # chunks
REQUESTS, CLIENTS, ALONE = 5_000, 16, 200
ROUNDS = 10  # one client alone and then the crowd, in turn: a machine's speed changes within minutes
TRACED = 200  # answers with tracing, and as many without, in turn
# random directions are near nothing, and what is measured must not end in "nothing found"
ANSWERS_ALWAYS = AskConfig(retrieval=RetrievalConfig(min_relevance=-1.0))
if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).resolve().parents[2]
HASHING, MODEL = "hashing:256", "all-MiniLM-L6-v2"
PATIENCE = 180.0  # seconds to wait for a server to be ready


def measure(*, few: int = FEW, many: int = MANY, requests: int = REQUESTS, embedder: str = MODEL) -> Benchmark:
    """Load on hashed words, so that the API is measured and not a model; start and memory with the default embedder,
    whose index holds made-up vectors, as many and as long as real ones."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(hashed := _settings(home / "hashed", HASHING), few, real=True)
        bare, tracing = seconds_without_api(hashed)
        with serving(hashed) as server:
            rounds = [one_round(server.port, requests) for _ in range(ROUNDS)]
        fill(small := _settings(home / "small", embedder), few)
        with serving(small) as server:
            start = server.seconds
        fill(large := _settings(home / "large", embedder), many)
        with serving(large) as server:
            grown = 0
            while grown < (now := memory(server.pid)[0]):  # further processes are still loading
                grown = now * 1.01
                run_clients(server.port, 100, clients=4)
                time.sleep(5)
            own, resident = memory(server.pid)
    alone, crowd = (merged(loads) for loads in zip(*rounds, strict=True))
    single, load_p95 = statistics.median(alone.seconds), p95(crowd.seconds)
    slower = statistics.median(p95(many.seconds) / statistics.median(one.seconds) for one, many in rounds)
    import_seconds = statistics.median(imported(("tools.serve", "llm_engineering.serving.server"))[0] for _ in range(5))
    return Benchmark(
        name="serving",
        bars=(
            Bar(what=f"p95 of {CLIENTS} clients against one alone * {CLIENTS} / {cores} cores",
                value=slower / (CLIENTS / cores), unit="x", at_most=2.5),
            Bar(what=f"errors in {len(crowd.seconds):,} requests", value=crowd.errors, unit="errors", at_most=0),
            Bar(what=f"start to ready, {few:,} chunks", value=start, unit="s", at_most=20),
            Bar(what="import of the app", value=import_seconds, unit="s", at_most=1),
            Bar(what=f"memory of its own, {many:,} chunks", value=own / 2**30, unit="GiB", at_most=2),
            Bar(what="tracing on against off", value=tracing * 1000, unit="ms", at_most=5),
        ),
        figures={
            "answered by the service itself": f"{bare * 1000:.1f} ms (median, extractive)",
            "through the API, one client": f"{single * 1000:.1f} ms (median), {p95(alone.seconds) * 1000:.1f} ms (p95)",
            f"through the API, {CLIENTS} clients": f"{statistics.median(crowd.seconds) * 1000:.0f} ms (median), "
            f"{load_p95 * 1000:.0f} ms (p95), {len(crowd.seconds) / crowd.wall:.0f} answers/s",
            "resident with mapped pages": f"{resident / 2**30:.2f} GiB",
            "embedders": f"{HASHING} under load, {embedder} for start and memory",
        },
    )  # fmt: skip


def one_round(port: int, requests: int) -> tuple["Load", "Load"]:
    alone = run_clients(port, ALONE // ROUNDS, clients=1)
    return alone, run_clients(port, math.ceil(requests / ROUNDS), clients=CLIENTS)


def merged(loads: Sequence["Load"]) -> "Load":
    seconds = [one for load in loads for one in load.seconds]
    return Load(seconds, sum(load.errors for load in loads), sum(load.wall for load in loads))


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))]


def _settings(home: Path, embedder: str) -> Settings:
    return Settings(_env_file=None, home=home, warehouse="", vectors="", embedder=embedder, language_model="extractive")


# --- the index ---------------------------------------------------------------------------------------------------


def sentences(count: int) -> Iterator[str]:
    """Three sentences each, of words from a vocabulary of 5,000."""
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 9))) for _ in range(5_000)]
    for _ in range(count):
        yield " ".join(" ".join(draw.choices(words, k=15)).capitalize() + "." for _ in range(3))


def fill(settings: Settings, chunks: int, *, real: bool = False) -> None:
    """Publish an index. Vectors are the embedder's where `real`, else random directions."""
    import numpy as np

    embedder, numbers = build_embedder(settings), np.random.default_rng(3)
    texts = list(sentences(chunks))
    with build_vector_store(settings).writer(IndexSpec(embedding=embedder.spec)) as writer:
        for at in range(0, chunks, 2_000):
            batch = [_chunk(number, texts[number]) for number in range(at, min(at + 2_000, chunks))]
            if real:
                vectors = np.asarray(embedder.embed([one.text for one in batch]))
            else:
                vectors = numbers.normal(size=(len(batch), embedder.spec.size)).astype(np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            rows = [EmbeddedChunk(*pair) for pair in zip(batch, vectors.tolist(), strict=True)]
            writer.replace(sorted({one.document_id for one in batch}), rows, [])
        writer.checkpoint("bench")
        writer.publish()


def _chunk(number: int, text: str) -> Chunk:
    document, author = number // 5, Author(name=f"Author {number // 5 % 20}")
    link = f"https://example.com/{document}"
    return Chunk(
        id=stable_id("chunk", str(number)), document_id=stable_id("document", str(document)), content_hash="bench",
        link=link, url=link, title=f"Text {document}", author_id=author.id, author_name=author.name,
        kind=Kind.ARTICLE, source="web_article", text=text, window=text, start=0, end=len(text), tokens=60,
    )  # fmt: skip


def questions(count: int) -> list[str]:
    """Ten words of a passage that is there."""
    texts = list(sentences(min(count, 1_000)))
    return [" ".join(texts[number % len(texts)].split()[:10]) + "?" for number in range(count)]


# --- without the API ---------------------------------------------------------------------------------------------


def seconds_without_api(settings: Settings) -> tuple[float, float]:
    """Median seconds of an answer with tracing, and how much less it takes without."""
    from llm_engineering.serving.answer_service import AnswerService

    quiet = settings.model_copy(update={"tracing": "off"})
    with open_platform(settings) as traced, open_platform(quiet) as untraced:
        both = [AnswerService(platform, ANSWERS_ALWAYS) for platform in (traced, untraced)]
        for service in both:
            service.load()
        seconds: tuple[list[float], list[float]] = ([], [])
        for number, question in enumerate(questions(TRACED)):
            for which in (0, 1) if number % 2 else (1, 0):
                seconds[which].append(_seconds_of(both[which], question))
        for service in both:
            service.close()
    on, off = (statistics.median(one) for one in seconds)
    return on, on - off


def _seconds_of(service: Service, question: str) -> float:
    began = time.perf_counter()
    *_, last = service.answer(Question(text=question))
    seconds = time.perf_counter() - began
    if not isinstance(last, Answer) or not last.answered:
        raise RuntimeError(f"{question!r} was not answered, so nothing was measured")
    return seconds


# --- a server in a process of its own -----------------------------------------------------------------------------


class Server(NamedTuple):
    port: int
    pid: int
    seconds: float  # from the start of the process until it was ready


@contextmanager
def serving(settings: Settings) -> Generator[Server]:
    config = settings.home / "ask.yaml"
    config.write_text(json.dumps(ANSWERS_ALWAYS.model_dump()))
    command = [sys.executable, "-m", "tools.serve", "--port", "0", "--config", str(config)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWIN_")}
    ours = {"TWIN_HOME": str(settings.home), "TWIN_EMBEDDER": settings.embedder}
    began = time.perf_counter()
    with (settings.home / "server.log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log, cwd=ROOT, env={**kept, **ours})
        try:
            port = _port(process, Path(log.name))
            _wait_until_ready(process, port)
            yield Server(port, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait(60)


def _port(process: subprocess.Popen, log: Path) -> int:
    while process.poll() is None:
        after = log.read_text().partition("serving http://127.0.0.1:")[2]
        if " " in after:
            return int(after.split()[0])
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {log.read_text()[-500:]}")


def _wait_until_ready(process: subprocess.Popen, port: int) -> None:
    import httpx

    end = time.perf_counter() + PATIENCE
    last = "nothing"
    while process.poll() is None and time.perf_counter() < end:
        try:
            response = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=PATIENCE)
        except httpx.TransportError:
            continue
        if response.status_code == 200:
            return
        last = response.text
        time.sleep(0.05)
    raise ConfigError(f"the server was not ready within {PATIENCE:g} s: {last}")


def memory(pid: int) -> tuple[int, int]:
    """Bytes of the server and its processes that are their own, and all that is resident, mapped pages included (those
    that several share, as often). Where the kernel does not tell them apart, both are the latter."""
    import psutil

    server = psutil.Process(pid)
    each = [_memory(one) for one in (server, *server.children(recursive=True))]
    return sum(own for own, _ in each), sum(resident for _, resident in each)


def _memory(process: "psutil.Process") -> tuple[int, int]:
    resident = process.memory_info().rss
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return resident, resident
    own = next(line for line in lines if line.startswith("RssAnon:"))
    return int(own.split()[1]) * 1024, resident


# --- clients, in a process of their own ---------------------------------------------------------------------------


class Load(NamedTuple):
    seconds: list[float]  # of each request
    errors: int
    wall: float


def run_clients(port: int, requests: int, *, clients: int) -> Load:
    command = [sys.executable, "-m", "tools.bench.serving", str(port), str(requests), str(clients)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the clients broke: {done.stderr[-500:]}")
    return Load(**json.loads(done.stdout.splitlines()[-1]))


async def send_questions(port: int, requests: int, clients: int) -> Load:
    waiting = iter([json.dumps({"question": question}).encode() for question in questions(requests)])
    seconds: list[float] = []
    errors = 0

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            began = time.perf_counter()
            try:
                good = await _post_question(reader, writer, body)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                good = False
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            seconds.append(time.perf_counter() - began)
            errors += not good
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(seconds, errors, time.perf_counter() - began)


async def _post_question(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bool:
    """Whether a whole, right answer came."""
    head = "POST /rag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    response = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(response.partition("content-length:")[2].split("\r\n")[0])
    answer = json.loads(await reader.readexactly(length))
    return response.startswith("http/1.1 200") and answer["answered"] and bool(answer["citations"])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(send_questions(*map(int, sys.argv[1:])))._asdict()))
