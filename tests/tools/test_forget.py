"""`poe forget`: an author is gone from everywhere, or it is said from where not."""

import sqlite3

import pytest
from click.testing import CliRunner
from mongo_server import free_port
from stores import a_document, an_entry
from tiny_model import make_tiny_model

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec, Where
from llm_engineering.domain.documents import Author
from llm_engineering.domain.ids import stable_id
from llm_engineering.domain.models import AUTHORS, Stage
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.vectors.personal_data import IndexedPassages
from tools.erasure import identify
from tools.forget import forget
from tools.models import models

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
    for said in ("2 documents", "1 links", "2 passages", "0 traces", "0 runs", "the author's lines in configs/"):
        assert said in done.output
    assert counts(ANN) == (0, 0, 0)
    assert counts(BOB) == (1, 1, 1)


def test_everything_the_platform_opens_that_keeps_something_of_an_author_is_on_the_list(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:32")
    with open_platform() as platform:
        listed = [store.open() for store in platform.personal_data()]
        opened = [getattr(platform, name) for name in dir(platform) if not name.startswith("_")]
        keeping = [one for one in opened if hasattr(one, "holds") and hasattr(one, "erase")]
        assert len(keeping) >= 4
        assert [one for one in keeping if not any(one is another for another in listed)] == []


def test_no_byte_of_the_author_is_left_in_the_home(home):
    def found():
        return [p.name for p in home.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]

    assert found()
    run("--author", "Ann Other", "--yes")
    assert found() == []


def test_passages_are_erased_after_what_a_run_that_is_going_on_could_make_them_from(home, monkeypatch):
    left = []
    erase = IndexedPassages.erase

    def look_and_erase(self, subject):
        with open_platform() as twin:
            left.append(twin.warehouse.holds(subject))
        return erase(self, subject)

    monkeypatch.setattr(IndexedPassages, "erase", look_and_erase)
    assert run("--author", "Ann Other", "--yes").exit_code == 0
    assert left == [0]
    assert counts(ANN) == (0, 0, 0)


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
    assert "2 passages, 1 links, 2 documents" in done.output
    assert counts(ANN) == (2, 1, 2)
    assert run("--author", "Ann Other", input="y\n").exit_code == 0
    assert counts(ANN) == (0, 0, 0)


def test_nobody_is_known_before_the_first_crawl(tmp_path, monkeypatch):
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "empty"))
    done = run("--author", "Nobody Yet Read", "--yes")
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


def test_what_is_known_of_an_author_is_kept_until_everything_is_erased(home, monkeypatch):
    """A store that was down is searched by it later, when those that knew it are empty."""
    with open_platform() as platform:
        links = identify(platform, "Ann Other").links
    monkeypatch.setenv("TWIN_VECTORS", f"http://127.0.0.1:{free_port()}")
    run("--author", "Ann Other", "--yes")
    with open_platform() as platform:
        assert identify(platform, "Ann Other").links == links != frozenset()
    monkeypatch.delenv("TWIN_VECTORS")
    assert run("--author", "ann  other", input="y\n").exit_code == 0
    assert not (home / "erasing").exists()
    with open_platform() as platform:
        assert identify(platform, "Ann Other").links == frozenset()


def test_a_document_that_is_damaged_is_erased_with_the_others(home):
    with sqlite3.connect(home / "warehouse.db") as connection:
        connection.execute("UPDATE documents SET payload=x'7b' WHERE id=?", (a_document("a").id,))
    connection.close()
    with open_platform() as platform:
        subject = identify(platform, "Ann Other")
    assert subject.document_ids == {a_document("a").id, a_document("b").id}
    assert a_document("b").link in subject.links
    assert run("--author", "Ann Other", "--yes").exit_code == 0
    assert counts(ANN) == (0, 0, 0)


def test_a_damaged_note_of_an_erasure_that_was_begun_is_said(home):
    (home / "erasing").mkdir()
    (home / "erasing" / f"{ANN}.json").write_text("{")
    done = run("--author", "Ann Other", "--yes")
    assert done.exit_code == 1
    assert "is damaged: remove it and run the same command again" in done.stderr
    assert counts(ANN) == (2, 1, 2)


def test_a_wrong_setting_is_one_line_and_exit_code_2(home, monkeypatch):
    monkeypatch.setenv("TWIN_HOM", "x")
    done = run("--author", "Ann Other", "--yes")
    assert done.exit_code == 2
    assert "did you mean TWIN_HOME?" in done.stderr


# --- models --------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, request):
    """An author of this test's own, and two versions of a model: only the first was trained on their writing."""
    name = request.node.name.removeprefix("test_")[:60]
    author = f"Author of {name}"
    with open_platform() as platform:
        for number, authors in enumerate((f"{BOB} {Author(name=author).id}", "")):
            folder = make_tiny_model(tmp_path / f"model-{number}")
            platform.registry.register(name, folder, facts={AUTHORS: authors, "loss": float(number)})
        platform.registry.promote(name, 1)
        yield name, author, lambda: platform.registry.versions(name)


def test_models_trained_on_an_author_are_named_and_flagged_and_stay_in_use(trained):
    name, author, versions = trained
    done = run("--author", author, "--yes")
    assert done.exit_code == 0, done.output
    assert "1 models" in done.output
    assert f"weights cannot forget: {name}@1 (flagged; --with-models archives them)" in done.output
    second, first = versions()
    assert (first.erased_authors, second.erased_authors) == ((Author(name=author).id,), ())
    assert first.stage is Stage.PRODUCTION
    assert (
        "an author of its training data was erased" in CliRunner(env={"COLUMNS": "300"}).invoke(models, "list").output
    )
    with open_platform() as platform:
        flagged = platform.registry.flag_erased(name, 1, BOB)
    assert set(flagged.erased_authors) == {Author(name=author).id, BOB}
    assert "there is no author" in run("--author", author, "--yes").stderr


def test_models_trained_on_an_author_are_archived_when_asked(trained):
    name, author, versions = trained
    run("--author", author, "--yes")
    done = run("--author", author, "--with-models", "--yes")
    assert done.exit_code == 0, done.output
    assert f"weights cannot forget: {name}@1 (archived)" in done.output
    second, first = versions()
    assert (first.stage, second.stage) == (Stage.ARCHIVED, None)
    assert run("--author", author, "--with-models", "--yes").exit_code == 1
