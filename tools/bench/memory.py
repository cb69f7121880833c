"""Whether memory grows with the corpus: etl and features over many small files, in processes of their own."""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llm_engineering.bootstrap import build_embedder, open_platform
from llm_engineering.domain.noun import Noun
from llm_engineering.features.config import AuthorConfig, EtlConfig, FeatureConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.settings import Settings
from tools.bench.result import Bar, Benchmark

FEW, MANY = 5_000, 20_000  # documents
CHARACTERS = 5_000  # of each
GIB = 2**30


class Footprint(Noun):
    """What one process held while it indexed `documents`. `own`: without mapped files. Times in seconds."""

    documents: int
    chunks: int
    bytes: int
    own: int = 0
    etl: float
    features: float

    def __str__(self) -> str:
        memory = f"{self.bytes / 2**20:,.0f} MiB ({self.own / 2**20:,.0f} without mapped files)"
        return f"{memory}, {self.chunks:,} chunks, etl {self.etl:.1f} s, features {self.features:.1f} s"


def measure(*, few: int = FEW, many: int = MANY) -> Benchmark:
    """The peak resident memory, as the kernel counted it, mapped index files included."""
    small, large = peak(few), peak(many)
    return Benchmark(
        name="memory",
        bars=(
            Bar(what=f"peak of {many:,} documents", value=large.bytes / GIB, unit="GiB", at_most=1.5),
            Bar(what=f"against {few:,} documents", value=large.bytes / small.bytes, unit="x", at_most=1.2),
        ),
        figures={f"{one.documents:,} documents": str(one) for one in (small, large)}
        | {"each": f"{CHARACTERS:,} characters of Markdown, read from files by the local_files source"},
    )


def peak(documents: int) -> Footprint:
    """Of one process that does both, with whatever processes it starts itself."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "texts", documents)
        command = [sys.executable, "-m", "tools.bench.memory", folder]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        together, own = watched(child)
        out, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"indexing {documents} documents ended with exit code {child.returncode}")
    found = Footprint.model_validate_json(out.splitlines()[-1])
    if found.documents != documents:
        raise RuntimeError(f"{found.documents} of {documents} documents were indexed")
    return found.model_copy(update={"bytes": max(found.bytes, together), "own": own})


def watched(child: subprocess.Popen) -> tuple[int, int]:
    """Most bytes that it and its children held together, and most without mapped files, looked at until it ends."""
    import psutil

    most = own = 0
    while child.poll() is None:
        try:
            family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            held = [one.memory_info() for one in family]
        except psutil.NoSuchProcess:
            continue  # one of them ended while it was looked at
        most = max(most, sum(one.rss for one in held))
        own = max(own, sum(one.rss - getattr(one, "shared", 0) for one in held))
        time.sleep(0.25)
    return most, own


def write(folder: Path, documents: int) -> None:
    """Markdown files with headings, their words drawn from a vocabulary of 20,000."""
    draw = random.Random(2)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 9))) for _ in range(20_000)]
    folder.mkdir()
    for number in range(documents):
        text = f"# Text {number}\n\n"
        while len(text) < CHARACTERS:
            text += f"## {' '.join(draw.choices(words, k=3))}\n\n{' '.join(draw.choices(words, k=90))}.\n\n"
        (folder / f"{number:06}.md").write_text(text[:CHARACTERS])


def crawl_and_index(folder: Path) -> Footprint:
    import resource

    settings = Settings(_env_file=None, home=folder / "home", warehouse="", vectors="", embedder="hashing")
    author = AuthorConfig.model_validate({"name": "Bench", "links": [{"local_files": str(folder / "texts")}]})
    config = EtlConfig(authors=(author,))
    with open_platform(settings) as twin, twin.fetch_context(config) as context:
        crawl = crawl_author(
            author, context=context, warehouse=twin.warehouse, ledger=twin.ledger, concurrency=4, min_success_rate=1.0
        )
        features = build_features(
            warehouse=twin.warehouse,
            ledger=twin.ledger,
            embedder=build_embedder(settings),
            vectors=twin.vectors,
            sandbox=context.sandbox,
            config=FeatureConfig(),
        )
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Footprint(
        documents=features.documents_indexed,
        chunks=features.chunks_total,
        bytes=kilobytes * (1 if sys.platform == "darwin" else 1024),
        etl=crawl.seconds,
        features=features.seconds,
    )


if __name__ == "__main__":
    print(crawl_and_index(Path(sys.argv[1])).model_dump_json())
