"""Killed with SIGKILL at random moments and run again, the main job ends where an uninterrupted run ends."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom
from threading import Event

import pytest

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import Chunk
from llm_engineering.features.config import EtlConfig, FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.infrastructure.sandbox import InProcess
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine
from llm_engineering.infrastructure.vectors.index_versions import current
from llm_engineering.infrastructure.vectors.points import SIBLINGS
from llm_engineering.settings import Settings

CHILD = Path(__file__).with_name("chaos_child.py")
ROOT = CHILD.parent.parent.parent
PAGES, FILES = 24, 8
KILLS = (4, 3)  # at most: of the first run, and of the run that follows the changes
WORDS = tuple("river stone lantern harbour winter copper signal meadow engine paper orchard violin".split())  # noqa: SIM905
QUESTIONS = ("a lantern in winter", "copper signal 7", "the meadow of page 3", "harbour")


def text(name: str, version: int = 1) -> list[str]:
    """Six paragraphs of their own for each name; `version` changes one of them."""
    random = Random(name)
    paragraphs = [
        f"Paragraph {n} of {name}: " + " ".join(random.choice(WORDS) for _ in range(random.randint(60, 110))) + "."
        for n in range(6)
    ]
    paragraphs[2] += f" This is version {version} of {name}."
    return paragraphs


def html(name: str, version: int = 1) -> str:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in text(name, version))
    return f"<html><head><title>{name}</title></head><body><article><h1>{name}</h1>{body}</article></body></html>"


class World:
    """A site and a folder to crawl, which can change."""

    def __init__(self, site, folder: Path) -> None:
        self.site, self.folder = site, folder
        folder.mkdir()
        site.latency = 0.01
        site.page("/robots.txt", "User-agent: *\nAllow: /\n", media="text/plain")
        for n in range(PAGES):
            site.page(f"/{n}", html(f"page {n}"), etag=True)
        for n in range(FILES):
            self.write(n)

    def write(self, n: int, version: int = 1) -> None:
        (self.folder / f"{n}.md").write_text(f"# note {n}\n\n" + "\n\n".join(text(f"note {n}", version)))

    def change(self) -> None:
        """A page and a file are edited, a page and a file are removed, a page is new to nobody."""
        self.site.page("/3", html("page 3", version=2), etag=True)
        self.site.remove("/5")
        self.write(2, version=2)
        (self.folder / "4.md").unlink()

    @property
    def config(self) -> str:
        links = [self.site.url(f"/{n}") for n in range(PAGES)]
        return EtlConfig.model_validate(
            {
                "authors": [
                    {"name": "Ann of the site", "links": links},
                    {"name": "Bob of the folder", "links": [{"local_files": str(self.folder)}]},
                ],
                "browser": False,
                "fetch": {"allow_hosts": [f"127.0.0.1:{self.site.port}"], "per_host": 4, "concurrency": 4},
            }
        ).model_dump_json()


def start(world: World, home: Path) -> subprocess.Popen[str]:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("TWIN_")}
    ours = {"TWIN_HOME": str(home), "TWIN_EMBEDDER": "hashing:64", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(CHILD), world.config],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home.parent,
        env={**outside, **ours},
    )


def run_to_the_end(world: World, home: Path) -> Counter[str]:
    """How often it said each word."""
    child = start(world, home)
    said, _ = child.communicate()
    assert child.returncode == 0
    assert said.splitlines()[-1] == "done"
    return Counter(line.split()[0] for line in said.splitlines())


def run_and_kill(world: World, home: Path, random: Random, steps: Counter[str]) -> str | None:
    """Kill it at some step of its crawl or of its features, and a moment more; None when it was done before."""
    word = random.choice(("crawl", "features"))
    wanted, delay = random.randint(1, max(steps[word] // 2, 1)), random.random() ** 2 * 0.2
    child, heard = start(world, home), 0
    assert child.stdout
    while heard < wanted and (line := child.stdout.readline()):
        heard += line.startswith(word)
    Event().wait(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode in (0, -signal.SIGKILL)
    return f"{word} {heard} and {delay * 1000:.0f} ms" if child.returncode else None


def state_of(home: Path) -> tuple[dict, dict, list]:
    """What is stored (documents, chunks) and what is found, of everything; nothing may be left to do."""
    fields = [*Chunk.model_fields, SIBLINGS]
    with open_platform(Settings(home=home, embedder="hashing:64")) as twin:
        documents = {
            document.id: (document.link, document.content_hash, document.body, document.title, document.revision)
            for document in twin.warehouse.documents()
        }
        root = home / "vectors"
        live, reader = current(root), twin.vectors.reader()
        info = reader.info()
        assert live
        assert info
        shard = EdgeEngine.view(root / live / "shard")
        chunks = dict(shard.scroll(None, fields))
        shard.close()
        assert list(twin.warehouse.changes(info.token)) == []
        vectors = twin.embedder.embed(QUESTIONS)
        found = [
            [(hit.chunk.id, round(hit.score, 4)) for hit in reader.search(vector=vector, limit=20)]
            for vector in vectors
        ]
        reader.close()
    return documents, chunks, found


def nothing_is_left_to_do(home: Path) -> bool:
    with open_platform(Settings(home=home, embedder="hashing:64")) as twin:
        report = build_features(
            warehouse=twin.warehouse,
            ledger=twin.ledger,
            embedder=twin.embedder,
            vectors=twin.vectors,
            sandbox=InProcess(),
            config=FeatureConfig(),
        )
    return report.chunks_embedded == report.documents_seen == 0


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_where_an_uninterrupted_run_ends(site, tmp_path):
    seed = int(os.environ.get("CHAOS_SEED") or SystemRandom().randrange(1_000_000))
    print(f"CHAOS_SEED={seed}")
    random, world = Random(seed), World(site, tmp_path / "notes")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    killed = []
    for kills, change in zip(KILLS, (None, world.change), strict=True):
        if change:
            change()
        steps = run_to_the_end(world, calm)
        for _ in range(kills):
            if moment := run_and_kill(world, wild, random, steps):
                killed.append(moment)
        run_to_the_end(world, wild)
        documents, chunks, found = state_of(calm)
        wild_documents, wild_chunks, wild_found = state_of(wild)
        assert wild_documents == documents, (seed, killed)
        assert wild_chunks == chunks, (seed, killed)
        assert wild_found == found, (seed, killed)
        assert {chunk["document_id"] for chunk in chunks.values()} == set(documents)
        assert nothing_is_left_to_do(wild), (seed, killed)
    print("killed after: " + "; ".join(killed))
    assert killed, f"CHAOS_SEED={seed}: every run was done before it could be killed"
    assert len(documents) == PAGES + FILES - 2
    texts = " ".join(chunk["text"] for chunk in chunks.values())
    for name in ("page 3", "note 2"):
        assert f"version 2 of {name}." in texts
        assert f"version 1 of {name}." not in texts
    assert "of page 5" not in texts
    assert "of note 4" not in texts
