"""`poe forget`: an author is gone from everywhere, or it is said from where not."""

import pytest
from click.testing import CliRunner
from mongo_server import free_port
from stores import a_document, an_entry

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.documents import Author
from llm_engineering.domain.ids import stable_id
from llm_engineering.infrastructure.embedders import HashingEmbedder
from tools.forget import forget

ANN, BOB = Author(name="Ann Other").id, Author(name="Bob").id
SECRET = "the sentence that has to go"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Two authors in every store."""
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "twin"))
    documents = [a_document("a", SECRET, author="Ann Other"), a_document("b", SECRET + "!", author="Ann Other")]
    documents.append(a_document("c", "Bob wrote this", author="Bob"))
    with open_platform() as twin:
        twin.warehouse.put(documents)
        twin.ledger.record([an_entry("a", author="Ann Other"), an_entry("c", author="Bob")])
        embedder = HashingEmbedder(32)
        chunks = [a_chunk(document) for document in documents]
        vectors = embedder.embed([chunk.text for chunk in chunks])
        with twin.vectors.writer(IndexSpec(embedding=embedder.spec)) as writer:
            embedded = [EmbeddedChunk(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]
            writer.replace([document.id for document in documents], embedded, [])
            writer.checkpoint("x")
            writer.publish()
    return tmp_path / "twin"


def a_chunk(document):
    return Chunk(
        id=stable_id(document.id, document.body), document_id=document.id, content_hash=document.content_hash,
        link=document.link, url=document.url, title="", author_id=document.author.id,
        author_name=document.author.name, kind=document.kind, source=document.source, text=document.body,
        window=document.body, start=0, end=len(document.body), tokens=5,
    )  # fmt: skip


def run(*arguments, **more):
    return CliRunner().invoke(forget, arguments, **more)


def counts(author_id):
    with open_platform() as twin:
        reader = twin.vectors.reader()
        passages = reader.count(Where(author_id=author_id))
        reader.close()
        return twin.warehouse.count(author_id=author_id), len(list(twin.ledger.entries(author_id=author_id))), passages


@pytest.mark.parametrize("name", ["Ann Other", "  ann   OTHER "])
def test_an_author_is_erased_everywhere_and_the_others_stay(home, name):
    assert counts(ANN) == (2, 1, 2)
    done = run("--author", name, "--yes")
    assert done.exit_code == 0, done.output
    for said in ("2 documents", "1 links", "2 passages"):
        assert said in done.output
    assert counts(ANN) == (0, 0, 0)
    assert counts(BOB) == (1, 1, 1)


def test_no_byte_of_the_author_is_left_in_the_home(home):
    def found():
        return [p.name for p in home.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]

    assert found()
    run("--author", "Ann Other", "--yes")
    assert found() == []


def test_an_unknown_author_is_refused_with_the_known_ones(home):
    done = run("--author", "Anne", "--yes")
    assert done.exit_code == 1
    assert done.stderr.strip() == "there is no author 'Anne'. Known: Ann Other, Bob"
    assert counts(ANN) == (2, 1, 2)


def test_a_blank_name_is_refused(home):
    done = run("--author", "  ", "--yes")
    assert done.exit_code == 1
    assert "a name, as in the config" in done.stderr


def test_it_asks_first_and_takes_no_for_an_answer(home):
    done = run("--author", "Ann Other", input="n\n")
    assert done.exit_code == 1
    assert "2 documents, 2 passages, 1 links" in done.output
    assert counts(ANN) == (2, 1, 2)
    assert run("--author", "Ann Other", input="y\n").exit_code == 0
    assert counts(ANN) == (0, 0, 0)


def test_nobody_is_known_before_the_first_crawl(tmp_path, monkeypatch):
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "empty"))
    done = run("--author", "Ann", "--yes")
    assert done.exit_code == 1
    assert "Known: nobody yet" in done.stderr


def test_a_vector_store_that_is_down_is_said_and_the_rest_is_erased_and_a_repeat_finishes(home, monkeypatch):
    monkeypatch.setenv("TWIN_VECTORS", f"http://127.0.0.1:{free_port()}")
    done = run("--author", "Ann Other", "--yes")
    assert done.exit_code == 1
    assert "NOT ERASED" in done.output
    assert "vectors was not erased" in done.stderr
    assert "2 documents" in done.output
    assert "run the same command again" in done.stderr
    monkeypatch.delenv("TWIN_VECTORS")
    assert counts(ANN) == (0, 0, 2)
    again = run("--author", "Ann Other", "--yes")
    assert again.exit_code == 0, again.output
    assert "2 passages" in again.output
    assert counts(ANN) == (0, 0, 0)
