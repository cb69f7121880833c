"""A Qdrant server that others use too: swapped under a reader, busy, misconfigured, or no Qdrant server at all."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from loopback import Answer
from passages import RECUT, SIZE, SPEC, VECTORS, embedded, fill, name, passage

from llm_engineering.domain.chunks import EmbeddedChunk
from llm_engineering.domain.errors import ConfigError, EmbeddingMismatch, StoreLocked, StoreUnavailable
from llm_engineering.infrastructure.vectors.qdrant import QdrantVectorStore, connect
from llm_engineering.infrastructure.vectors.qdrant_requests import BATCH

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

JSON = {"Content-Type": "application/json"}
NO_COLLECTIONS = Answer(200, b'{"result": {"collections": []}}', JSON)


@pytest.fixture
def client():
    from qdrant_client import QdrantClient

    return QdrantClient(":memory:")


class Overtaken:
    """A client in whose way `meanwhile` gets, once, just before the call `method`; a collection that is gone then is
    told as a server tells it."""

    def __init__(self, client, method, meanwhile) -> None:
        self._client, self._method, self._meanwhile = client, method, [meanwhile]

    def __getattr__(self, attribute):
        real = getattr(self._client, attribute)
        return self._late(real) if attribute == self._method and self._meanwhile else real

    def _late(self, real):
        from httpx import Headers
        from qdrant_client.http.exceptions import UnexpectedResponse

        def call(*arguments, **options):
            self._meanwhile.pop()()
            try:
                return real(*arguments, **options)
            except ValueError:
                raise UnexpectedResponse(404, "Not SearchResult", b"Collection doesn't exist!", Headers()) from None

        return call


def store_of(client: Overtaken) -> QdrantVectorStore:
    return QdrantVectorStore(cast("QdrantClient", client))


QUESTIONS = {
    "search": lambda reader: [hit.chunk.id for hit in reader.search(text=name(40), limit=3)],
    "count": lambda reader: reader.count(),
    "info": lambda reader: reader.info().chunks,
    "facets": lambda reader: list(reader.facets().authors.values()),
}
CALLS = [
    ("search", "query_batch_points"),
    ("count", "count"),
    ("info", "retrieve"),
    ("info", "count"),
    ("facets", "retrieve"),
    ("facets", "facet"),
]


@pytest.mark.parametrize(("question", "call"), CALLS)
def test_an_index_swapped_under_a_question_is_answered_from_the_new_one(client, question, call):
    fill(QdrantVectorStore(client), [embedded(i) for i in range(12)])
    late = Overtaken(client, call, lambda: fill(QdrantVectorStore(client), [embedded(40)], rebuild=True))
    answer = QUESTIONS[question](store_of(late).reader(SPEC))
    assert answer == QUESTIONS[question](QdrantVectorStore(client).reader(SPEC))


def test_an_index_swapped_for_one_of_another_spec_is_refused_and_not_called_damaged(client):
    fill(QdrantVectorStore(client), [embedded(0)])

    def swap():
        fill(QdrantVectorStore(client), [embedded(1)], spec=RECUT, rebuild=True)

    late = Overtaken(client, "query_batch_points", swap)
    with pytest.raises(EmbeddingMismatch, match="--rebuild"):
        store_of(late).reader(SPEC).search(text="red", limit=1)


def test_a_collection_that_is_gone_for_good_is_said_once(client):
    fill(QdrantVectorStore(client), [embedded(0)])
    [published] = [c.name for c in client.get_collections().collections if c.name.startswith("chunks--")]
    aliases = client.get_aliases()

    class Stale(Overtaken):
        def get_aliases(self):
            return aliases

    late = Stale(client, "count", lambda: client.delete_collection(published))
    with pytest.raises(StoreUnavailable, match="said 404"):
        store_of(late).reader().count()


def test_a_long_document_goes_out_in_requests_a_server_takes(client):
    sizes = []

    class Watched(Overtaken):
        def batch_update_points(self, collection, operations, **options):
            sizes.append(sum(len(one.upsert.points) if hasattr(one, "upsert") else 0 for one in operations))
            return client.batch_update_points(collection, operations, **options)

    store = store_of(Watched(client, "", None))
    long = [EmbeddedChunk(passage(0, text=f"part {n}"), VECTORS[n % 80]) for n in range(2 * BATCH + 1)]
    assert fill(store, long).chunks == len(long)
    assert sizes == [BATCH, BATCH, 1]
    kept = [passage(0, text=one.chunk.text, title="Renamed") for one in long]
    with store.writer(SPEC) as writer:
        writer.replace([kept[0].document_id], [], kept[: BATCH + 1])
        writer.publish()
    assert {chunk.title for chunk in store.reader(SPEC).sample()} == {"Renamed"}
    assert store.reader(SPEC).count() == BATCH + 1


def test_collections_of_others_are_neither_read_nor_dropped(client):
    from qdrant_client import models as m

    theirs = ["chunks--theirs", "chunks--theirs--000001-copy", "chunks--theirs--9"]
    for one in theirs:
        client.create_collection(one, vectors_config={})
    alias = m.CreateAlias(collection_name=theirs[0], alias_name="chunks--zzz")
    client.update_collection_aliases([m.CreateAliasOperation(create_alias=alias)])
    store = QdrantVectorStore(client)
    assert store.reader().info() is None
    fill(store, [embedded(0)])
    fill(store, [embedded(1)], rebuild=True)
    assert store.reader(SPEC).count() == 1
    assert set(theirs) <= {collection.name for collection in client.get_collections().collections}


def test_a_writer_whose_lock_was_taken_over_does_not_publish(client):
    from datetime import UTC, datetime, timedelta

    from llm_engineering.infrastructure.vectors import server_lock

    store = QdrantVectorStore(client)
    fill(store, [embedded(0)])
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    with store.writer(SPEC, rebuild=True) as writer:
        note = {"owner": "other", "host": "elsewhere", "pid": 7, "until": later}
        store._server.write_record(server_lock.KEY, note)
        writer._lock._until = datetime.now(UTC)
        with pytest.raises(StoreLocked, match="process 7"):
            writer.publish()
    assert store.reader(SPEC).count() == 1


def test_erasing_leaves_nothing_of_an_author_in_the_files_of_a_qdrant(tmp_path):
    """Its local mode stands for a server: both keep a deleted point in the files of its collection."""
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(tmp_path))
    try:
        store, secret = QdrantVectorStore(client), "Xylophonist"
        fill(store, [embedded(i) for i in range(8)] + [embedded(20, text=f"{secret} plays", author_id="gone")])
        with store.writer(SPEC, rebuild=True) as writer:
            writer.replace([passage(20).document_id], [embedded(20, text=f"{secret} sings", author_id="gone")], [])
            writer.checkpoint("2")
        before = store.reader().info()
        assert before is not None
        assert files_with(tmp_path, secret)
        assert store.erase("gone") == 2
        assert files_with(tmp_path, secret) == []
        after = store.reader(SPEC)
        assert after.info() == before._replace(chunks=8, version=f"{int(before.version) + 2:06d}")
        assert after.search(vector=VECTORS[5], text=name(5), limit=1)[0].chunk == passage(5)
    finally:
        client.close()


def files_with(folder: Path, word: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_an_erasure_that_is_cut_short_shows_nothing_and_is_done_again(client):
    fill(QdrantVectorStore(client), [embedded(i) for i in range(8)], token="7")
    gone = passage(4).author_id

    def killed():
        raise RuntimeError("killed")

    late = Overtaken(client, "update_collection_aliases", killed)
    with pytest.raises(RuntimeError, match="killed"):
        store_of(late).erase(gone)
    store = QdrantVectorStore(client)
    assert store.reader(SPEC).count() == 4
    assert store.erase(gone) == 0
    info = store.reader(SPEC).info()
    assert info is not None
    assert (info.chunks, info.token) == (4, "7")
    collections = [one.name for one in client.get_collections().collections]
    assert sorted(collections) == [f"{SPEC.name}--{info.version}", "llm_twin_meta"]


# --- what a server may answer -----------------------------------------------------------------------------------


@pytest.fixture
def served(site):
    site.route("/collections", lambda request: NO_COLLECTIONS)
    return site, QdrantVectorStore(connect(site.url("/").rstrip("/")))


@pytest.mark.parametrize("body", ["<h1>It works!</h1>", '{"result": 7}', "[]", "", "\x00\ufffd"])
def test_an_answer_that_is_none_of_qdrants_is_told(served, body):
    site, store = served
    site.page("/aliases", body, media="application/json")
    with pytest.raises(StoreUnavailable, match="not as a Qdrant server does; correct TWIN_VECTORS"):
        store.reader().count()


@pytest.mark.parametrize(
    ("headers", "says"), [({"Retry-After": "7"}, r"asked too often; run again in 7 s"), ({}, "said 429")]
)
def test_a_busy_server_is_told(served, headers, says):
    site, store = served
    site.route("/aliases", lambda request: Answer(429, b"{}", JSON | headers))
    with pytest.raises(StoreUnavailable, match=says):
        store.reader().count()


def test_a_server_that_fails_is_asked_twice_at_most(served):
    site, store = served
    alias = f'{{"alias_name": "{SPEC.name}", "collection_name": "{SPEC.name}--000001"}}'
    site.page("/aliases", f'{{"result": {{"aliases": [{alias}]}}}}', media="application/json")
    with pytest.raises(StoreUnavailable, match="said 404"):
        store.reader(SPEC).search(vector=[0.1] * SIZE, limit=1)
    assert site.hits(f"/collections/{SPEC.name}--000001/points/query/batch") == 1


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://[broken", "http://ann:hunter2@host:x/"])
def test_an_address_that_is_none_is_a_wrong_setting_and_shows_no_password(url):
    with pytest.raises(ConfigError, match=r"TWIN_VECTORS=http://.*no usable address; write http://HOST:6333") as told:
        connect(url)
    assert "hunter2" not in str(told.value)


def test_a_password_in_the_address_is_in_no_message(site):
    site.route("/collections", lambda request: NO_COLLECTIONS)
    url = f"http://ann:hunter2@127.0.0.1:{site.port}"
    store = QdrantVectorStore(connect(f"{url}?key=hunter2"))
    for ask in (lambda: store.reader().count(), lambda: store.reader(SPEC).info(), lambda: connect(f"{url}/nowhere")):
        with pytest.raises(StoreUnavailable, match=rf"http://127.0.0.1:{site.port}") as told:
            ask()
        assert "hunter2" not in str(told.value)
