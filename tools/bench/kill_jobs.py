"""The jobs that `tools.bench.kills` kills: what they work on, and all that a reader sees of what they left.

`python -m tools.bench.kill_jobs JOB FOLDER` does one. The commands behind them are those of `poe run-etl`,
`run-features [--rebuild]`, `warehouse export`, `warehouse import` and `forget`.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import NamedTuple

from llm_engineering.bootstrap import Platform, open_platform, open_sandbox
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.ledger import LedgerEntry, Outcome
from llm_engineering.features.config import AuthorConfig, EtlConfig, FeatureConfig
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.settings import Settings

JOBS = ("etl", "features", "rebuild", "export", "import", "forget")
ANN, BOB = "Ann Xylograph", "Bob"
NOTES = {ANN: 40, BOB: 12}
WORDS = ("river", "stone", "lantern", "harbour", "winter", "copper", "signal", "meadow", "engine", "paper", "orchard")
QUESTIONS = ("a lantern in winter", "copper signal 7", "the meadow of note 3", "harbour")


class State(NamedTuple):
    """All that a reader could see, without the times at which it was written."""

    documents: Mapping[str, object]
    links: Mapping[str, object]
    chunks: Mapping[str, str]
    found: list[list[tuple[str, float]]]
    waiting: int  # changes that the index has not seen
    export: bytes

    def differs_from(self, other: "State") -> str:
        """In what; "" when they are the same."""
        return ", ".join(name for name in self._fields if getattr(self, name) != getattr(other, name))


def do(job: str, place: Path) -> None:
    match job:
        case "etl" | "features" | "rebuild":
            with open_platform() as twin:
                print("begin", flush=True)
                crawl(twin, place) if job == "etl" else index(twin, rebuild=job == "rebuild")
        case "export" | "import":
            from tools.warehouse import warehouse

            print("begin", flush=True)
            warehouse([job, str(place / "export.jsonl")])
        case "forget":
            forget(place)


def forget(place: Path) -> None:
    """What a kill left of them, if it left anything: the command says no when nobody of that name is known."""
    from llm_engineering.infrastructure.zenml.connection import open_zenml
    from tools import erasure
    from tools.forget import forget as command

    open_zenml()
    with open_platform() as twin:
        subject = erasure.identify(twin, ANN)
        known = erasure.is_pending(twin, subject) or any(True for _ in twin.warehouse.ids(author_id=subject.author_id))
    print("begin", flush=True)
    if known:
        command(["--author", ANN, "--yes"])


# --- what it works on ------------------------------------------------------------------------------------------


OLD_EXPORT = b"an older export\n"


def prepared(folder: Path) -> Path:
    """A folder for each job, in which it is the next thing to do. What is crawled lies beside them, edited since."""
    notes, first, places = folder / "notes", folder / "first", folder / "places"
    for author, count in NOTES.items():
        (notes / author).mkdir(parents=True)
        for number in range(count):
            write(notes, author, number)
    with opened(first) as twin:
        crawl(twin, first)
        index(twin)
    edit(notes)
    edited = copied(first)
    with opened(edited) as twin:
        crawl(twin, edited)
    indexed = copied(edited)
    with opened(indexed) as twin:
        index(twin)
    begins = {"etl": first, "features": edited, "rebuild": indexed, "export": indexed, "forget": indexed}
    for job, place in begins.items():
        shutil.copytree(place, places / job)
    (places / "export" / "export.jsonl").write_bytes(OLD_EXPORT)
    (places / "import").mkdir()
    export(indexed, places / "import" / "export.jsonl")
    return places


def write(notes: Path, author: str, number: int, version: int = 1) -> None:
    random = Random(f"{author} {number} {version}")
    paragraphs = "\n\n".join(" ".join(random.choices(WORDS, k=80)) + f" {author} {number}." for _ in range(6))
    (notes / author / f"{number}.md").write_text(f"# Note {number} of {author}, version {version}\n\n{paragraphs}\n")


def edit(notes: Path) -> None:
    """Some are written again, some are removed, some are new."""
    for number in (0, 7, 13, 21, 39):
        write(notes, ANN, number, version=2)
    for number in (3, 11, 30):
        (notes / ANN / f"{number}.md").unlink()
    for number in (100, 101):
        write(notes, BOB, number)


def copied(place: Path) -> Path:
    copy = Path(tempfile.mkdtemp(prefix="copy-", dir=place.parent))
    shutil.copytree(place, copy, dirs_exist_ok=True)
    return copy


def opened(place: Path) -> AbstractContextManager[Platform]:
    return open_platform(Settings(_env_file=None, home=place / "home", warehouse="", vectors="", embedder="hashing:64"))


def crawl(twin: Platform, place: Path) -> None:
    notes = next(parent / "notes" for parent in place.parents if (parent / "notes").is_dir())
    authors = [
        AuthorConfig.model_validate({"name": name, "links": [{"local_files": str(notes / name)}]}) for name in NOTES
    ]
    with twin.fetch_context(EtlConfig(authors=tuple(authors))) as context:
        for author in authors:
            crawl_author(
                author,
                context=context,
                warehouse=twin.warehouse,
                ledger=twin.ledger,
                concurrency=4,
                min_success_rate=1.0,
            )


def index(twin: Platform, *, rebuild: bool = False) -> None:
    config = FeatureConfig(buffer_chunks=12)
    with open_sandbox(config.budget) as sandbox:
        build_features(
            warehouse=twin.warehouse,
            ledger=twin.ledger,
            embedder=twin.embedder,
            vectors=twin.vectors,
            sandbox=sandbox,
            config=config,
            rebuild=rebuild,
        )


def export(place: Path, file: Path) -> None:
    from llm_engineering.infrastructure.warehouse.transfer import export_warehouse

    with opened(place) as twin:
        export_warehouse(twin.warehouse, twin.ledger, file)


def state_of(place: Path) -> State:
    file = place / "export.jsonl"
    with opened(place) as twin:
        documents = {
            one.id: (one.link, one.content_hash, one.title, one.body, one.revision)
            for one in twin.warehouse.documents()
        }
        links = {one.link: (one.author_name, _ended(one), one.reason, one.documents) for one in twin.ledger.entries()}
        reader = twin.vectors.reader()
        try:
            info = reader.info()
            chunks = {chunk.id: chunk.model_dump_json() for chunk in reader.sample()} if info else {}
            vectors = twin.embedder.embed(QUESTIONS) if info else ()
            found = [
                [(hit.chunk.id, round(hit.score, 4)) for hit in reader.search(vector=vector, limit=20)]
                for vector in vectors
            ]
            waiting = sum(1 for _ in twin.warehouse.changes(info.token)) if info else 0
        finally:
            reader.close()
    return State(documents, links, chunks, found, waiting, file.read_bytes() if file.exists() else b"")


def _ended(entry: LedgerEntry) -> Outcome:
    """What a job had done before it was killed is unchanged to the one after it."""
    return Outcome.READ if entry.outcome == Outcome.UNCHANGED else entry.outcome


if __name__ == "__main__":
    try:
        do(sys.argv[1], Path(sys.argv[2]))
    except LLMTwinError as error:
        sys.exit(str(error))
