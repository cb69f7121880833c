"""What goes wrong with a vector store, what it says, and that nothing published is lost."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from loopback import Answer
from passages import SPEC, embedded, everything, fill, passage

from llm_engineering.domain.chunks import EmbeddingSpec, IndexSpec
from llm_engineering.domain.errors import EmbeddingMismatch, StoreCorrupt, StoreLocked, StoreUnavailable
from llm_engineering.domain.ids import stable_id
from llm_engineering.infrastructure.vectors import index_versions, server_lock
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.vectors.qdrant import QdrantVectorStore, connect

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path):
    return tmp_path / "vectors"


@pytest.fixture
def store(root):
    return EdgeVectorStore(root)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "vectors"
    fill(EdgeVectorStore(folder), [embedded(i) for i in range(8)], token="1")
    return folder


@pytest.fixture
def filled(store, root, original):
    index_versions.copy_tree(original, root)
    return store


# --- damage --------------------------------------------------------------------------------------------------


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="latin-1")


def _fewer_chunks(root: Path) -> None:
    path = root / "000001" / "manifest.json"
    _write(path, json.dumps(json.loads(path.read_text()) | {"chunks": 99}))


DAMAGE = {
    "CURRENT is empty": lambda root: _write(root / "CURRENT", ""),
    "CURRENT is garbage": lambda root: _write(root / "CURRENT", "../../etc\0ÿ"),
    "CURRENT names a version that is gone": lambda root: _write(root / "CURRENT", "000009"),
    "no manifest": lambda root: (root / "000001" / "manifest.json").unlink(),
    "half a manifest": lambda root: _write(root / "000001" / "manifest.json", '{"format": 1, "spec"'),
    "a manifest of something else": lambda root: _write(root / "000001" / "manifest.json", '{"a": 1}'),
    "no shard": lambda root: (root / "000001" / "shard").rename(root / "elsewhere"),
    "no segments": lambda root: (root / "000001" / "shard" / "segments").rename(root / "elsewhere"),
    "a damaged segment": lambda root: [_write(p, "{") for p in root.rglob("segment.json")],
    "a damaged config": lambda root: [_write(p, "{") for p in root.rglob("edge_config.json")],
    "a cut payload": lambda root: [os.truncate(p, 3) for p in root.rglob("payload_storage/bitmask.dat")],
    "a cut status": lambda root: [os.truncate(p, 3) for p in root.rglob("deleted/status.dat")],  # the engine panics
    "points are missing": lambda root: [os.truncate(p, 0) for p in root.rglob("mutable_id_tracker.mappings")],
    "chunks are missing": _fewer_chunks,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_with_how_to_mend_it_and_a_rebuild_mends_it(filled, root, damage):
    DAMAGE[damage](root)
    with pytest.raises(StoreCorrupt, match=r"poe run-features --rebuild") as told:
        filled.reader(SPEC).search(text="red", limit=1)
    assert str(root) in str(told.value)
    fill(filled, [embedded(i) for i in range(4)], rebuild=True)
    assert set(everything(filled)) == {passage(i).id for i in range(4)}


@pytest.mark.parametrize("damage", ["CURRENT is garbage", "half a manifest", "a damaged segment"])
def test_nobody_writes_on_top_of_damage(filled, root, damage):
    DAMAGE[damage](root)
    with pytest.raises(StoreCorrupt, match="--rebuild"), filled.writer(SPEC) as writer:
        writer.replace([passage(0).document_id], [embedded(0)], [])


def test_an_open_reader_goes_on_while_a_rebuild_mends_the_folder(filled, root):
    reader = filled.reader(SPEC)
    assert reader.count() == 8
    DAMAGE["CURRENT is garbage"](root)
    with filled.writer(SPEC, rebuild=True) as writer:
        assert reader.count() == 8
        writer.replace([passage(0).document_id], [embedded(0)], [])
        writer.publish()
    assert reader.count() == 1


# --- locked --------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_writes_and_a_killed_one_holds_nothing(filled, root):
    program = (
        "import sys; from pathlib import Path; from passages import *;"
        "from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore\n"
        "with EdgeVectorStore(Path(sys.argv[1])).writer(SPEC): print('locked', flush=True); sys.stdin.read()"
    )
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "locked"
        for enter in (lambda: filled.writer(SPEC).__enter__(), lambda: filled.erase("anybody")):
            with pytest.raises(StoreLocked, match=rf"process {holder.pid}; wait for it to end, or stop it"):
                enter()
        assert filled.reader(SPEC).count() == 8
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert fill(filled, [embedded(40)]).chunks == 9


# --- disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_run_before_it_writes_and_it_goes_on_later(filled, root):
    no_room = EdgeVectorStore(root, min_free_bytes=1 << 60)
    with (
        pytest.raises(StoreUnavailable, match=r"disk .* is full: .* MB are needed; free some space and run again"),
        no_room.writer(SPEC) as writer,
    ):
        writer.replace([passage(40).document_id], [embedded(40)], [])
    assert filled.reader(SPEC).count() == 8
    with filled.writer(SPEC) as writer:  # room again, and something is written
        writer.replace([passage(40).document_id], [embedded(40)], [])
        writer.checkpoint("2")
    with pytest.raises(StoreUnavailable, match="full"), no_room.writer(SPEC) as writer:
        writer.replace([passage(44).document_id], [embedded(44)], [])
    with filled.writer(SPEC) as writer:
        assert writer.token == "2"
        assert writer.publish().chunks == 9
    assert filled.erase("nobody") == 0
    with pytest.raises(StoreUnavailable, match="full"):
        no_room.erase(passage(0).author_id)
    assert filled.reader(SPEC).count() == 9


def test_what_the_disk_says_is_told_in_words(tmp_path):
    with (
        pytest.raises(StoreUnavailable, match=r"the disk is full: No space left on device; free some space"),
        index_versions.disk_error(tmp_path),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")


def test_a_place_that_is_no_folder_is_told(tmp_path):
    place = tmp_path / "file"
    place.write_text("I am a file")
    store = EdgeVectorStore(place)
    with pytest.raises(StoreUnavailable, match=str(place)):
        store.reader(SPEC).info()
    with pytest.raises(StoreUnavailable, match=str(place)), store.writer(SPEC):
        pass


# --- another embedder ----------------------------------------------------------------------------------------


def test_another_embedder_of_the_same_size_is_refused_too(filled):
    other = IndexSpec(embedding=EmbeddingSpec(model_id="another", size=SPEC.embedding.size))
    with pytest.raises(EmbeddingMismatch, match=r"embedder hashing .*embedder another .*--rebuild"):
        filled.reader(other).count()
    with pytest.raises(EmbeddingMismatch), filled.writer(other):
        pass
    assert len(everything(filled)) == 8


# --- a server ------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_named_with_what_to_do(site):
    site.close()
    with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{site.port} does not answer .*TWIN_VECTORS"):
        connect(site.url("/").rstrip("/"))


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "TWIN_QDRANT_API_KEY"), (403, "TWIN_QDRANT_API_KEY"), (500, "said 500: No space left on the device")],
)
def test_what_a_server_says_is_passed_on(site, status, says):
    site.route("/collections", lambda request: Answer(status, b"No space left on the device"))
    with pytest.raises(StoreUnavailable, match=says):
        connect(site.url("/").rstrip("/"))


def test_a_server_that_is_no_qdrant_is_told(site):
    site.page("/collections", "<h1>Welcome</h1>")
    with pytest.raises(StoreUnavailable, match=f"{site.port}.* not as a Qdrant server"):
        connect(site.url("/").rstrip("/"))


def test_a_server_that_goes_away_is_told_at_the_next_question(site):
    site.route(
        "/collections",
        lambda request: Answer(200, b'{"result": {"collections": []}}', {"Content-Type": "application/json"}),
    )
    store = QdrantVectorStore(connect(site.url("/").rstrip("/")))
    site.close()
    with pytest.raises(StoreUnavailable, match=str(site.port)):
        store.reader(SPEC).count()


@pytest.fixture
def memory():
    from qdrant_client import QdrantClient

    return QdrantVectorStore(QdrantClient(":memory:"))


def test_a_collection_nobody_can_explain_is_told(memory):
    fill(memory, [embedded(0)])
    client = memory._server.client
    client.delete_collection("llm_twin_meta")
    with pytest.raises(StoreCorrupt, match="--rebuild"):
        memory.reader().info()
    fill(memory, [embedded(1)], rebuild=True)
    assert memory.reader(SPEC).count() == 1


def test_a_build_that_was_cut_short_at_its_birth_is_dropped(memory):
    client = memory._server.client
    memory._server.create(f"{SPEC.name}--000001", SPEC.embedding.size)
    fill(memory, [embedded(0)])
    names = {collection.name for collection in client.get_collections().collections}
    assert names == {f"{SPEC.name}--000002", "llm_twin_meta"}


def note_of(memory, **fields):
    note = {"owner": "other", "host": "elsewhere", "pid": 7, "until": datetime.now(UTC).isoformat()}
    memory._server.write_record(server_lock.KEY, note | fields)


def test_the_lock_of_a_live_writer_elsewhere_holds(memory):
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    note_of(memory, until=later)
    with pytest.raises(StoreLocked, match=r"process 7 on elsewhere; .*lapses at"), memory.writer(SPEC):
        pass


def test_a_silent_or_dead_writer_loses_its_lock(memory):
    note_of(memory, until=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    fill(memory, [embedded(0)])
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    note_of(memory, until=later, pid=dead.pid, host=server_lock.socket.gethostname())
    fill(memory, [embedded(1)])
    note_of(memory, until=later, pid=os.getppid(), host=server_lock.socket.gethostname())
    with pytest.raises(StoreLocked, match=str(os.getppid())), memory.writer(SPEC):
        pass


def test_a_writer_that_was_silent_too_long_does_not_write_over_another(memory, monkeypatch):
    with memory.writer(SPEC) as writer:
        later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        note_of(memory, until=later)
        writer._lock._until = datetime.now(UTC)
        with pytest.raises(StoreLocked, match="process 7"):
            writer.replace([passage(0).document_id], [embedded(0)], [])
    assert memory._server.record(server_lock.KEY)["owner"] == "other"  # not ours to take away


def test_a_prefix_keeps_two_platforms_apart():
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    one, other = QdrantVectorStore(client, prefix="one-"), QdrantVectorStore(client, prefix="two-")
    fill(one, [embedded(0)])
    assert other.reader().info() is None
    fill(other, [embedded(i) for i in range(4)])
    assert (one.reader(SPEC).count(), other.reader(SPEC).count()) == (1, 4)
    assert stable_id("index", f"one-{SPEC.name}--000001") != stable_id("index", f"two-{SPEC.name}--000001")
