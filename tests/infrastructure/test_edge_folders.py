"""What the embedded vector store does with its folders: versions, crashes, several processes."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from passages import SIZE, SPEC, VECTORS, embedded, everything, fill, name, passage

from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Author
from llm_engineering.domain.prose import stem
from llm_engineering.infrastructure.vectors import index_versions, points
from llm_engineering.infrastructure.vectors.bm25 import index_of
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.vectors.edge_engine import EdgeEngine, seal

TESTS = Path(__file__).resolve().parent.parent
PREAMBLE = """
import sys
from pathlib import Path
from passages import *
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
root = Path(sys.argv[1])
store = EdgeVectorStore(root)
def say(*words): print(*words, flush=True)
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "vectors"


@pytest.fixture
def store(root):
    return EdgeVectorStore(root)


@pytest.fixture
def child(root):
    """Starts Python programs on the same folder; what is still running is killed after the test."""
    started = []

    def start(program: str) -> subprocess.Popen:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PREAMBLE + program, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def views(tmp_path, monkeypatch):
    """What readers keep of their own, in a place that no other test's readers use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: set(tmp_path.glob("llm-twin-view-*"))


# --- versions ------------------------------------------------------------------------------------------------


def test_an_unchanged_run_writes_nothing_but_its_token(store, root):
    fill(store, [embedded(i) for i in range(8)], token="1")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    with store.writer(SPEC) as writer:
        assert writer.hashes([passage(0).document_id])
        writer.replace([passage(60).document_id], [], [])  # a document that never had a chunk is removed
        writer.checkpoint("2")
        writer.publish()
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    written = {str(path.relative_to(root)) for path, moment in after.items() if before.get(path) != moment}
    assert {part for part in written if "shard/segments" not in part} == {"000001/manifest.json", ".lock"}
    assert index_versions.versions(root) == ["000001"]


def test_the_published_version_and_the_one_before_are_kept(store, root):
    for i in range(4):
        assert fill(store, [embedded(4 * i)]).version == f"{i + 1:06d}"
    assert index_versions.versions(root) == ["000003", "000004"]
    assert index_versions.current(root) == "000004"


def test_a_copy_keeps_its_holes(store, root, tmp_path):
    fill(store, [embedded(0)])
    index_versions.copy_tree(root / "000001", tmp_path / "copy")
    original, copy = (index_versions.stored_bytes(folder) for folder in (root / "000001", tmp_path / "copy"))
    logical = sum(path.stat().st_size for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert logical > 100_000_000
    assert copy < 2 * original < 10_000_000
    for path in (root / "000001").rglob("*"):
        if path.is_file():
            assert (tmp_path / "copy" / path.relative_to(root / "000001")).read_bytes() == path.read_bytes()


def test_a_reader_leaves_nothing_behind(store, views):
    fill(store, [embedded(0)])
    before = views()
    reader = store.reader(SPEC)
    assert reader.count() == 1
    fill(store, [embedded(4)])
    assert reader.count() == 2
    assert len(views() - before) == 1
    reader.close()
    assert reader.count() == 2  # closed is not broken: it opens again
    reader.close()
    assert views() == before


def test_a_sealed_shard_answers_as_before(store, root):
    fill(store, [embedded(i) for i in range(60)])
    before = everything(store)
    seal(root / "000001" / "shard")
    assert everything(store) == before
    assert store.reader(SPEC).search(text=name(42), limit=1)[0].chunk == passage(42)


def test_a_build_that_is_sealed_as_it_grows_answers_like_one_that_is_not(store, root, tmp_path):
    sealing = EdgeVectorStore(tmp_path / "sealing", seal_every=20)
    for one in (store, sealing):
        with one.writer(SPEC) as writer:
            for start in range(0, 60, 10):
                batch = [embedded(i) for i in range(start, start + 10)]
                writer.replace(sorted({chunk.chunk.document_id for chunk in batch}), batch, [])
                writer.checkpoint(str(start))
            writer.publish()
    segments = [len(list((folder / "000001" / "shard" / "segments").iterdir())) for folder in (root, sealing.root)]
    assert segments[1] > segments[0]
    assert everything(sealing) == everything(store)
    fill(sealing, [embedded(7, text="another text")])
    assert sealing.reader(SPEC).search(text="another text", limit=1)[0].chunk.text == "another text"


RARE = ("Xylophonist", "Quodlibetarian")


def files_with(root: Path, needles: Sequence[bytes]) -> dict[bytes, list[str]]:
    """The files that hold each of these bytes, wherever in them: segments, logs, manifests, what was deleted."""
    contents = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {needle: [name for name, content in contents.items() if needle in content] for needle in needles}


def test_an_erased_author_is_in_no_file(store, root):
    """Not in a segment, a write-ahead log, a deleted point, an older or an unpublished version, nor by name or link;
    and no posting of BM25 has the index of a word that only they used."""
    theirs: dict[str, Any] = {
        "author_id": Author(name="Gone").id,
        "author_name": "Gonville Everywhere",
        "window": " ".join(RARE),
        "title": RARE[0],
        "url": "https://gone.example/1",
    }
    fill(store, [embedded(i) for i in range(8)])
    fill(store, [embedded(20, text=f"{RARE[0]} plays", **theirs), embedded(21, text=f"{RARE[1]} sings", **theirs)])
    with store.writer(SPEC) as writer:  # one of the two is deleted before its author is
        writer.replace([passage(20).document_id], [], [passage(20, text=f"{RARE[0]} plays", **theirs)])
        writer.publish()
    with store.writer(SPEC) as writer:
        writer.replace([passage(0).document_id], [embedded(30, document=0, text=RARE[0], **theirs)], [])
        writer.checkpoint("2")
    words = [word.encode() for word in (*RARE, "Gonville", theirs["author_id"], "gone.example")]
    postings = [index_of(stem(word.lower())).to_bytes(4, "big") for word in RARE]
    assert all(files_with(root, words + postings).values())
    assert store.erase(theirs["author_id"]) == 2
    assert files_with(root, words) == {word: [] for word in words}
    assert not all(files_with(root, postings).values())  # four bytes are found by chance, twice four are not
    assert {passage(i).id for i in range(4, 8)} < set(everything(store))


# --- crashes -------------------------------------------------------------------------------------------------


def kill_when_it_says(process: subprocess.Popen, word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[0] == word:
            break
    else:
        pytest.fail(f"the child never said {word}")
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_changes_nothing_for_readers_and_the_next_goes_on(store, child):
    fill(store, [embedded(i) for i in range(8)], token="1")
    reader = store.reader(SPEC)
    killed = child("""
with store.writer(SPEC) as writer:
    writer.replace([passage(40).document_id], [embedded(i) for i in range(40, 44)], [])
    writer.checkpoint("2")
    writer.replace([passage(0).document_id], [], [])
    say("written")
    sys.stdin.read()
""")
    kill_when_it_says(killed, "written")
    assert reader.count() == store.reader(SPEC).count() == 8
    assert reader.info().token == "1"
    with store.writer(SPEC) as writer:
        assert writer.token == "2"
        assert passage(40).document_id in writer.hashes([passage(40).document_id])
        assert writer.document_ids() == {passage(4).document_id, passage(40).document_id}
        writer.publish()
    assert reader.count() == 8
    assert reader.info().token == "2"


def test_a_copy_that_was_cut_short_is_begun_again(store, root):
    fill(store, [embedded(i) for i in range(8)], token="1")
    (root / "000002" / "shard").mkdir(parents=True)
    (root / "000002" / "shard" / "edge_config.json").write_text("{")
    fill(store, [embedded(40)], token="2")
    assert len(everything(store)) == 9


def test_a_damaged_unpublished_version_is_begun_again_from_the_published_one(store, root):
    fill(store, [embedded(i) for i in range(8)], token="1")
    with store.writer(SPEC) as writer:
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("2")
    for path in (root / "000002" / "shard").rglob("segment.json"):
        path.write_text("{")
    with store.writer(SPEC) as writer:
        assert writer.token == "1"
        assert len(writer.document_ids()) == 2
    assert index_versions.versions(root) == ["000001"]


def test_a_version_begun_from_another_published_one_is_dropped(store, root):
    fill(store, [embedded(0)], token="1")
    with store.writer(SPEC, rebuild=True) as writer:
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("9")
    with store.writer(SPEC) as writer:
        assert writer.token == "1"
        assert writer.document_ids() == {passage(0).document_id}


def test_a_document_that_was_written_by_halves_does_not_pass_for_whole(tmp_path):
    chunks = [embedded(i) for i in range(4)]
    document_id = chunks[0].chunk.document_id
    plan = points.plan_replace([document_id], chunks, [], stored={}, size=SIZE)
    shard = EdgeEngine.create(tmp_path / "shard", SIZE)
    for written, expected in ((plan.new[:3], ""), (plan.new, "v1")):
        shard.upsert(written)
        rows = [payload for _, payload in shard.scroll(Where(document_id=document_id), points.HASH_FIELDS)]
        assert points.whole_hashes(rows) == {document_id: expected}
    fresh = points.plan_replace(
        [document_id], [embedded(50, document=0, version="v2")], [], stored={document_id: set()}, size=SIZE
    )
    shard.upsert(fresh.new)
    rows = [payload for _, payload in shard.scroll(None, points.HASH_FIELDS)]
    assert points.whole_hashes(rows) == {document_id: ""}
    shard.close()


# --- several processes ---------------------------------------------------------------------------------------


def test_two_processes_read_at_once_while_a_third_writes(store, child):
    fill(store, [embedded(i) for i in range(8)])
    program = """
reader = store.reader(SPEC)
say(reader.count(), reader.search(vector=VECTORS[3], limit=1)[0].chunk.id)
sys.stdin.readline()
say(reader.count(), reader.search(vector=VECTORS[40], limit=1)[0].chunk.id)
"""
    readers = [child(program) for _ in range(2)]
    for process in readers:
        assert process.stdout.readline().split() == ["8", passage(3).id]
    fill(store, [embedded(40)])
    for process in readers:
        answer, _ = process.communicate("go\n", timeout=60)
        assert answer.split() == ["9", passage(40).id]
        assert process.returncode == 0


def test_no_question_fails_while_versions_are_published(store, child):
    """Each version holds chunk 0 and exactly one other; a reader always sees two chunks."""
    fill(store, [embedded(0), embedded(4)])
    asking = child("""
import threading
reader, done = store.reader(SPEC), threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
asked, versions = 0, set()
say("begun")
while not done.is_set():
    assert reader.count() == 2
    assert reader.search(vector=VECTORS[0], text=name(0), limit=1)[0].chunk == passage(0)
    asked += 1
    versions.add(reader.info().version)
say(asked, len(versions))
""")
    assert asking.stdout.readline().strip() == "begun"
    for i in range(5, 9):
        with store.writer(SPEC) as writer:
            writer.replace([passage(4).document_id], [embedded(10 * (i - 4), document=1)], [])
            writer.publish()
    answer, _ = asking.communicate("stop\n", timeout=60)
    asked, versions = map(int, answer.split())
    assert asking.returncode == 0
    assert asked > 0
    assert versions >= 1


def test_readers_write_nothing_into_what_is_published(store, root):
    """Else a writer copies half of it, or removes a folder in which something appears."""
    fill(store, [embedded(0), embedded(4)])

    def state() -> dict[Path, tuple[int, int, bytes]]:
        places = [path for path in root.rglob("*") if path.name not in (".lock", "CURRENT")]
        stats = [(path, path.stat()) for path in places]
        return {
            path: (stat.st_ino, stat.st_mtime_ns if path.is_dir() else 0, b"" if path.is_dir() else path.read_bytes())
            for path, stat in stats
        }

    before = state()
    for _ in range(2):
        reader = store.reader(SPEC)
        assert reader.search(vector=VECTORS[0], text=name(0), limit=1)[0].chunk == passage(0)
        reader.close()
    assert state() == before


def test_vectors_come_back_from_erasing_as_they_were(store):
    fill(store, [embedded(i) for i in range(12)])
    store.erase(passage(4).author_id)
    reader = store.reader(SPEC)
    for i in (0, 3, 8, 11):
        [hit] = reader.search(vector=VECTORS[i], limit=1)
        assert (hit.chunk, round(hit.score, 4)) == (passage(i), 1.0)
        assert reader.search(text=name(i), limit=1)[0].chunk == passage(i)
