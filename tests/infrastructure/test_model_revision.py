"""Which weights a folder holds: never a stale answer, and gigabytes are read once."""

import json
import os
from pathlib import Path

import pytest
from passages import fill, passage
from tiny_embedder import make_tiny_embedder
from vector_stores import STORES, opened_store

from llm_engineering.bootstrap import build_embedder
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.domain.errors import ConfigError, EmbeddingMismatch
from llm_engineering.inference.retrieval.retrieve import open_index
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
from llm_engineering.infrastructure.model_revision import FileHashes, model_revision
from llm_engineering.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    """What a model looks like to who hashes it."""
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"):
        (model / name).write_text(f"the content of {name}")
    return model


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json", "2_Dense/model.safetensors"],
)
def test_another_content_of_any_file_that_decides_the_vectors_is_another_revision(folder, name):
    before = model_revision(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("something else")
    assert model_revision(folder) != before


def test_a_renamed_file_is_another_revision(folder):
    before = model_revision(folder)
    (folder / "config.json").rename(folder / "config_sentence_transformers.json")
    assert model_revision(folder) != before


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", "onnx/model.onnx", "checkpoint-500/model.safetensors"])
def test_what_does_not_decide_the_vectors_is_left_out(folder, name):
    before = model_revision(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("anything")
    assert model_revision(folder) == before


def test_a_copy_elsewhere_has_the_same_revision(folder, tmp_path):
    assert model_revision(folder.rename(tmp_path / "elsewhere")) == model_revision(tmp_path / "elsewhere")


def test_a_snapshot_of_the_hub_is_known_by_its_commit(folder, tmp_path):
    snapshots = tmp_path / "models--nobody--model" / "snapshots"
    snapshots.mkdir(parents=True)
    assert model_revision(folder.rename(snapshots / COMMIT)) == COMMIT


# --- remembering ---


def remembered(cache: Path) -> dict[str, list]:
    return json.loads(cache.read_text()) if cache.exists() else {}


def test_a_settled_file_is_read_once(folder, tmp_path):
    cache, weights = tmp_path / "cache" / "revisions.json", folder / "model.safetensors"
    hashes = FileHashes(cache, settled_ns=0)
    first = hashes.sha256(weights)
    hashes.save()
    entry = remembered(cache)[str(weights)]
    assert entry[1] == first
    cache.write_text(json.dumps({str(weights): [entry[0], "what was remembered"]}))
    assert FileHashes(cache).sha256(weights) == "what was remembered"


def test_a_file_that_was_just_written_is_not_remembered(folder, tmp_path):
    """It may be written again within one tick of the clock, and look the same."""
    hashes = FileHashes(tmp_path / "revisions.json", settled_ns=3_600_000_000_000)
    hashes.sha256(folder / "model.safetensors")
    hashes.save()
    assert remembered(tmp_path / "revisions.json") == {}


def in_place(weights: Path) -> None:
    weights.write_text("THE CONTENT OF MODEL.SAFETENSORS")


def replaced(weights: Path) -> None:
    fresh = weights.with_name("fresh")
    in_place(fresh)
    fresh.replace(weights)


@pytest.mark.parametrize("rewrite", [in_place, replaced])
def test_a_rewritten_file_of_the_same_size_and_date_is_read_again(folder, tmp_path, rewrite):
    cache, weights = tmp_path / "revisions.json", folder / "model.safetensors"
    hashes = FileHashes(cache, settled_ns=0)
    before, stat = hashes.sha256(weights), weights.stat()
    hashes.save()
    rewrite(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert FileHashes(cache).sha256(weights) != before


def test_files_that_are_gone_are_forgotten(folder, tmp_path):
    cache = tmp_path / "revisions.json"
    for name in ("config.json", "tokenizer.json"):
        hashes = FileHashes(cache, settled_ns=0)
        hashes.sha256(folder / name)
        hashes.save()
        (folder / name).unlink()
    assert [Path(path).name for path in remembered(cache)] == ["tokenizer.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"/a": 7}'])
def test_a_damaged_cache_costs_time_and_nothing_else(folder, tmp_path, content):
    cache = tmp_path / "revisions.json"
    cache.write_text(content)
    assert model_revision(folder, cache=cache) == model_revision(folder)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    hashes = FileHashes(tmp_path / "file" / "revisions.json", settled_ns=0)
    assert hashes.sha256(folder / "config.json")
    hashes.save()


# --- embedders ---


def test_a_model_retrained_in_its_folder_has_another_spec(tmp_path):
    folder = make_tiny_embedder(tmp_path / "model")
    settings = Settings(embedder=str(folder), home=tmp_path / "home")
    first, again = build_embedder(settings).spec, build_embedder(settings).spec
    make_tiny_embedder(folder, seed=2)
    retrained = build_embedder(settings).spec
    assert first == again
    assert retrained != first
    assert retrained.model_copy(update={"revision": first.revision}) == first


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.parametrize("kind", STORES)
def test_an_index_does_not_answer_the_model_that_was_retrained_since(tmp_path, kind):
    folder = make_tiny_embedder(tmp_path / "model")
    before = SentenceTransformerEmbedder(str(folder))
    with opened_store(kind, tmp_path) as store:
        vectors, spec = before.embed(["a passage"]), IndexSpec(embedding=before.spec)
        fill(store, [EmbeddedChunk(passage(0), vectors[0])], spec=spec)
        make_tiny_embedder(folder, seed=2)
        after = SentenceTransformerEmbedder(str(folder))
        retrained = IndexSpec(embedding=after.spec)
        with pytest.raises(EmbeddingMismatch, match=r"revision .* revision .*--rebuild"):
            store.reader(retrained).search(vector=list(after.embed(["a"])[0]), limit=1)
        with pytest.raises(EmbeddingMismatch, match="--rebuild"), store.writer(retrained):
            pass
        with pytest.raises(EmbeddingMismatch, match=r"revision .* revision .*--rebuild"):
            open_index(store, embedder=after)
        assert open_index(store, embedder=before).count() == 1
        fill(store, [EmbeddedChunk(passage(0), after.embed(["a passage"])[0])], spec=retrained, rebuild=True)
        assert open_index(store, embedder=after).count() == 1


def test_weights_that_change_before_they_are_loaded_are_refused(tmp_path):
    """Their vectors would go into the index under the revision of the others."""
    folder = make_tiny_embedder(tmp_path / "model")
    embedder = SentenceTransformerEmbedder(str(folder))
    assert embedder.spec.size == 16
    make_tiny_embedder(folder, seed=2)
    with pytest.raises(ConfigError, match="files were changed since this run began; run again"):
        embedder.embed(["a"])


def test_a_hub_id_has_the_commit_of_its_cached_snapshot(tmp_path, monkeypatch):
    repository = tmp_path / "models--nobody--tiny"
    make_tiny_embedder(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    embedder = SentenceTransformerEmbedder("nobody/tiny")
    assert embedder.spec.revision == COMMIT
    assert embedder.embed(["a"]).shape == (1, 16)
