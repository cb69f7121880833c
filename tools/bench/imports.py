"""Importing does nothing: how long each room and each adapter takes to import, and what it drags in."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from tools.bench.result import Bar, Benchmark

HEAVY = (
    "torch", "transformers", "sentence_transformers", "tokenizers", "numpy", "scipy", "sklearn", "zenml", "pymongo",
    "bson", "qdrant_client", "qdrant_edge", "httpx", "selenium", "trafilatura", "bs4", "feedparser", "pypdf",
    "langchain_community", "langchain_core", "matplotlib", "fastapi", "openai", "semantic_text_splitter", "sqlalchemy",
    "psutil", "rich",
)  # fmt: skip
ROOMS = ("domain", "features", "training", "inference")
REPEATS = 5

_CHILD = """
import sys, time, json
before = time.perf_counter()
for name in sys.argv[2:]:
    __import__(name)
seconds = time.perf_counter() - before
print(json.dumps([seconds, [name for name in sys.argv[1].split(",") if name in sys.modules]]))
"""


def measure() -> Benchmark:
    """The median of five fresh processes for each; the interpreter's own start is not counted."""
    seconds: dict[str, float] = {}
    heavy: set[str] = set()
    for what, modules in everything().items():
        runs = [imported(modules) for _ in range(REPEATS)]
        seconds[what] = statistics.median(took for took, _ in runs)
        heavy |= {f"{what}: {name}" for _, names in runs for name in names}
    slowest = max(seconds, key=lambda what: seconds[what])
    return Benchmark(
        name="imports",
        bars=(
            Bar(what=f"slowest import ({slowest})", value=seconds[slowest], unit="s", at_most=0.5),
            Bar(what="heavy modules loaded", value=len(heavy), unit="modules", at_most=0),
        ),
        figures={room: f"{seconds[room]:.3f} s" for room in ROOMS}
        | {"measured": f"{len(seconds)} rooms and adapters, each in fresh processes"}
        | ({"heavy": ", ".join(sorted(heavy))} if heavy else {}),
    )


def everything() -> dict[str, tuple[str, ...]]:
    """What is imported together: a whole room, or one adapter."""
    rooms = {room: _modules(f"llm_engineering/{room}") for room in ROOMS}
    adapters = {name.removeprefix("llm_engineering."): (name,) for name in _modules("llm_engineering/infrastructure")}
    return rooms | adapters | {name: (f"llm_engineering.{name}",) for name in ("settings", "bootstrap")}


def _modules(folder: str) -> tuple[str, ...]:
    root = Path(__file__).resolve().parent.parent.parent
    files = sorted((root / folder).rglob("*.py"))
    named = (".".join(file.relative_to(root).with_suffix("").parts) for file in files if file.stat().st_size)
    return tuple(name.removesuffix(".__init__") for name in named)


def imported(modules: tuple[str, ...]) -> tuple[float, list[str]]:
    """Seconds to import them in a fresh process, and which heavy modules came with them."""
    command = [sys.executable, "-c", _CHILD, ",".join(HEAVY), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    return seconds, heavy
