"""One hostile client beside good ones: what its requests, made to be expensive, cost the others."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from tools.bench.result import Bar, Benchmark
from tools.bench.serving import HASHING, ROOT, Load, Server, _settings, fill, merged, p95, run_clients, serving

CHUNKS, CLIENTS = 10_000, 8
ROUNDS, REQUESTS = 8, 240  # undisturbed and disturbed in turn, so many requests of the good clients each
SIZE = 98_000  # bytes of a hostile text
ASKED = "What does it say about baking bread?"
TEXTS = {
    "newlines": "\n",
    "roles": "system\n",
    "spaces": " ",
    "spaces before a letter": f"# a{' ' * 1_000}b\n",
    "brackets": "[",
    "images": "![](",
    "tags": "<a ",
    "fences": "```\n",
    "letters": "a",
    "dots": "a. ",
    "quotations": '"a ',
    "pronouns": "it that is there ",
    "orders": "ignore all the my your previous ",
    "tokens": "<|<|",
    "zero width": "\u200d\u200b",
    "directions": "\u202e",
    "flags": "\U0001f3f4\U000e0067",
    "accents": "e\u0301",
    "nonsense": "xq zvw qpl ",
    "dates": "in 2024 since ",
    "names": "Ann-Ann.",
}


def measure(*, chunks: int = CHUNKS, rounds: int = ROUNDS, requests: int = REQUESTS) -> Benchmark:
    with tempfile.TemporaryDirectory() as folder:
        fill(settings := _settings(Path(folder), HASHING), chunks, real=True)
        with serving(settings) as server:
            run_clients(server.port, requests, clients=CLIENTS)  # what is slow only once
            pairs = [one_round(server, requests) for _ in range(rounds)]
    alone, beside = (merged(loads) for loads in list(zip(*pairs, strict=True))[:2])
    sent = Counter[str]()
    for *_, statuses in pairs:
        sent.update(statuses)
    slower = statistics.median(p95(two.seconds) / p95(one.seconds) for one, two, _ in pairs)
    return Benchmark(
        name="hostile",
        bars=(
            Bar(what=f"p95 of {CLIENTS} good clients beside a hostile one against without", value=slower, unit="x",
                at_most=3),
            Bar(what=f"their errors in {len(beside.seconds):,} requests", value=beside.errors, unit="errors",
                at_most=0),
            Bar(what="hostile requests that were answered", value=sum(sent.values()), unit="requests", at_least=1),
        ),
        figures={
            "p95 without": f"{p95(alone.seconds) * 1000:.0f} ms",
            "p95 beside": f"{p95(beside.seconds) * 1000:.0f} ms",
            "what the hostile one was told": ", ".join(f"{count} x {status}" for status, count in sent.most_common()),
        },
    )  # fmt: skip


def one_round(server: Server, requests: int) -> tuple[Load, Load, dict[str, int]]:
    """Without, beside, and how often the hostile client was told which status."""
    alone = run_clients(server.port, requests, clients=CLIENTS)
    with attacked(server.port) as statuses:
        beside = run_clients(server.port, requests, clients=CLIENTS)
    return alone, beside, statuses


@contextmanager
def attacked(port: int) -> Generator[dict[str, int]]:
    """By one client, in a process of its own; afterwards the dict says how it was answered."""
    statuses: dict[str, int] = {}
    command = [sys.executable, "-m", "tools.bench.hostile", str(port)]
    attack = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert attack.stdout is not None
    try:
        if attack.stdout.readline() != "begun\n":
            raise RuntimeError("the hostile client broke")
        yield statuses
    finally:
        said, _ = attack.communicate("")  # the end of what it reads is the end of the attack
    statuses.update(json.loads(said))


def hostile_bodies() -> Iterator[bytes]:
    """Each text as the turn before, as many turns, and as the question; and bodies that are expensive to read."""
    for text in TEXTS.values():
        whole = (text * (SIZE // len(text.encode()) + 1))[:SIZE]
        turns = [{"role": ("user", "assistant")[n % 2], "content": whole[:490]} for n in range(199)]
        yield _body(ASKED, [{"role": "user", "content": whole}])
        yield _body("And then?", [{"role": "user", "content": whole[:15_000]}])
        yield _body("And then?", turns)
        yield _body(whole[:7_900], [])
        yield _body(f"And {whole[:7_800]} why?", turns)
    yield b"[" * 980_000
    yield b'{"question": ' + b'{"a":' * 150_000
    yield b'{"question": "x", "where": {' + b",".join(b'"%d": 1' % n for n in range(80_000)) + b"}}"
    yield b'{"question": "x", "history": [' + b",".join([b"{}"] * 300_000) + b"]}"
    yield b'{"question": "' + b"\\ud83d\\ude42" * 80_000 + b'"}'
    yield b'{"question": "x", "k": 1' + b"0" * 900_000 + b"}"


def _body(question: str, history: list[dict[str, str]]) -> bytes:
    return json.dumps({"question": question, "history": history}, ensure_ascii=False).encode()


def attack(port: int) -> Counter[str]:
    """One request after the other, until nothing more is to be read."""
    import threading

    import httpx

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    statuses: Counter[str] = Counter()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=150) as client:
        for body in cycle(hostile_bodies()):
            if ended.is_set():
                return statuses
            try:
                response = client.post("/rag", content=body, headers={"Content-Type": "application/json"})
                statuses[str(response.status_code)] += 1
            except httpx.TransportError as error:
                statuses[type(error).__name__] += 1
    return statuses


if __name__ == "__main__":
    print("begun", flush=True)
    print(json.dumps(attack(int(sys.argv[1]))))
