"""Whether one item can stop a run: hostile items among good ones, through `run-etl` and `run-features`.

Every command gets a process group of its own, which is killed after LONGEST seconds; so a run that hangs is a
result, and not a benchmark that hangs. The items are in `attacks`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tools.bench.attacks import ITEMS, Item
from tools.bench.hostile_site import GOOD, serving
from tools.bench.result import Bar, Benchmark

ROOT = Path(__file__).parents[2]
LONGEST = 1200.0  # seconds of one command, on a machine that is busy with other things
BEYOND = 60.0  # seconds that all hostile items together may cost


class Command(NamedTuple):
    """`code` None: it did not end, and was killed."""

    seconds: float
    code: int | None
    said: str


class Ended(NamedTuple):
    """What came of a crawl and an index over the items. The links are canonical."""

    etl: Command
    features: Command
    found: frozenset[str]  # names of good ones that a search finds
    indexed: frozenset[str]  # links
    named: dict[str, str]  # link -> why: in `poe crawl-status`

    @property
    def seconds(self) -> float:
        return self.etl.seconds + self.features.seconds


def measure(items: Iterable[Item] = ITEMS) -> Benchmark:
    """The good ones alone, then the good and the hostile ones together, each in a home of its own. ZenML's database is
    made before anything is timed."""
    hostile = tuple(items)
    with tempfile.TemporaryDirectory(prefix="llm-twin-hostile-") as zenml:
        tried((), Path(zenml))
        alone, together = tried((), Path(zenml)), tried(hostile, Path(zenml))
    unheard = [item.name for item in hostile if not outcome_of(item, together)]
    return Benchmark(
        name="hostile_items",
        bars=(
            Bar(
                what="wall beyond the good ones' own", value=together.seconds - alone.seconds, unit="s", at_most=BEYOND
            ),
            Bar(what="good ones that are searchable", value=len(together.found), unit="items", at_least=len(GOOD)),
            Bar(what="hostile ones of which nothing is said", value=len(unheard), unit="items", at_most=0),
            Bar(what="commands that did not end green", value=red(together), unit="commands", at_most=0),
        ),
        figures={
            "good ones": f"{len(GOOD)} in {alone.seconds:.1f} s",
            "with hostile ones": f"{len(hostile)} more, {together.seconds:.1f} s (etl {together.etl.seconds:.1f}, "
            f"features {together.features.seconds:.1f})",
            **tallied(hostile, together),
            **({"nothing is said of": ", ".join(unheard)} if unheard else {}),
        },
    )


def red(ended: Ended) -> int:
    return sum(command.code != 0 for command in (ended.etl, ended.features))


def tallied(hostile: tuple[Item, ...], ended: Ended) -> dict[str, str]:
    counts: dict[str, int] = {}
    for item in hostile:
        what = outcome_of(item, ended) or "nothing"
        counts[what] = counts.get(what, 0) + 1
    return {"came of them": ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))}


def outcome_of(item: Item, ended: Ended) -> str:
    """ "named" with its reason, "indexed" (its words could be read after all), "listed" (a feed that was read) or
    "skipped" (a file that is no text, which a folder only counts); "" when nothing is said of it."""
    if any(_is_of(item, link) for link in ended.named):
        return "named"
    if any(_is_of(item, link) for link in ended.indexed):
        return "indexed"
    if item.kind == "feed":
        return "listed"
    return "skipped" if item.name in NO_TEXT and ended.etl.code == 0 else ""


NO_TEXT = ("zero-bytes.md", "nul-filled.md", "nul-later.md", "pdf-that-is-a-page.pdf", "bytes-of-no-charset.txt")


def _is_of(item: Item, link: str) -> bool:
    return link.partition("?")[0].rpartition("/")[2] == item.name


# --- one run ---------------------------------------------------------------------------------------------------


def tried(items: tuple[Item, ...], zenml: Path, *, stored: bool = True) -> Ended:
    """Crawl and index the good ones and `items`, with the commands that a person types. Raises RuntimeError when it
    cannot be seen what came of it; `stored` False: then it is not looked at."""
    with tempfile.TemporaryDirectory(prefix="llm-twin-hostile-") as folder, serving(items) as port:
        home, config = Path(folder) / "home", Path(folder) / "etl.json"
        (Path(folder) / "tmp").mkdir()
        config.write_text(json.dumps(config_of(items, port, Path(folder))))
        features = Path(folder) / "features.json"
        features.write_text(json.dumps({"min_success_rate": 0}))
        run = partial(_run, home, zenml)
        etl = run("tools.run", "digital_data_etl", "--config", str(config))
        built = run("tools.run", "feature_engineering", "--config", str(features))
        if not stored:
            return Ended(etl, built, frozenset(), frozenset(), {})
        status = run("tools.crawl_status", "--json")
        if status.code != 0:
            raise RuntimeError(f"what became of the links cannot be read: {status.said[-2000:]}")
        return Ended(etl, built, *_stored(home), _named(json.loads(status.said)))


def config_of(items: tuple[Item, ...], port: int, folder: Path) -> dict:
    """One author, so that what happens to one link could happen to all. Good pages and hostile ones have hosts of their
    own, as they would; files lie together."""
    files = folder / "files"
    files.mkdir()
    for name, data in [(good.name, good.text.encode()) for good in GOOD if good.kind == "file"]:
        (files / name).write_bytes(data)
    for item in items:
        if item.kind in ("file", "export"):
            (files / item.name).write_bytes(item.make())
    links: list[object] = [good.url(port) for good in GOOD if good.kind == "page"]
    links += [{"web_article": f"http://127.0.0.1:{port}/good/{name}"} for name in ("feed.xml", "sitemap.xml")]
    links.append({"local_files": str(files)})
    for item in items:
        address = f"http://localhost:{port}/hostile/{item.name}"
        match item.kind:
            case "page":
                links.append(address)
            case "feed":
                links.append({"web_article": address})
            case "export":
                links.append({"linkedin": str(files / item.name)})
    fetch = {"allow_hosts": ["127.0.0.1", "localhost"], "total_timeout": 5, "read_timeout": 3, "attempts": 1}
    author = {"name": "Good and hostile", "links": links}
    return {"authors": [author], "browser": False, "min_success_rate": 0, "fetch": {**fetch, "per_host": 8}}


def _run(home: Path, zenml: Path, *words: str) -> Command:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TWIN_")}
    ours = {"TWIN_HOME": str(home), "TWIN_EMBEDDER": "hashing:64", "TWIN_TRACING": "off"}
    places = {"PYTHONPATH": str(ROOT), "ZENML_CONFIG_PATH": str(zenml), "TMPDIR": str(home.parent / "tmp")}
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=home.parent,
        env={**outside, **ours, **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=LONGEST)
        return Command(time.perf_counter() - began, child.returncode, said)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
        return Command(time.perf_counter() - began, None, said)


def _named(status: dict) -> dict[str, str]:
    listed = status["dead_letters"] + status["unindexed_documents"]
    return {one["link"]: f"{one['reason']}: {one['detail']}" for one in listed}


def _stored(home: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The good ones whose sentence a search for it finds among its first five, and the links of all that is indexed."""
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.settings import Settings

    with open_platform(Settings(_env_file=None, home=home, warehouse="", vectors="", embedder="hashing:64")) as twin:
        reader = twin.vectors.reader()
        try:
            vectors = twin.embedder.embed([good.sentence for good in GOOD])
            found = frozenset(
                good.name
                for good, vector in zip(GOOD, vectors, strict=True)
                if any(good.sentence in hit.chunk.text for hit in reader.search(vector=vector, limit=5))
            )
            held = {chunk.document_id for chunk in reader.sample()}
            documents = [document for document in twin.warehouse.documents() if document.id in held]
        finally:
            reader.close()
    return found, frozenset(link for document in documents for link in (document.link, document.crawled_from))


if __name__ == "__main__":
    print(measure().model_dump_json(indent=2))
