import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_embedder import make_tiny_embedder

from llm_engineering.domain.chunks import EmbeddingSpec
from llm_engineering.domain.errors import ConfigError
from llm_engineering.infrastructure.embedders import HashingEmbedder, SentenceTransformerEmbedder
from llm_engineering.infrastructure.embedders.loading import cpu_computes_bfloat16
from llm_engineering.infrastructure.model_files import PACKAGED_REVISION, VectorShape, local_folder, read_shape
from llm_engineering.infrastructure.model_revision import model_revision

MINILM = "all-MiniLM-L6-v2"
PACKAGED = EmbeddingSpec(model_id=MINILM, revision=PACKAGED_REVISION, size=384, max_tokens=256)
SOURCE = local_folder(MINILM) or Path("the ml group is not installed")


@pytest.fixture
def folder(tmp_path):
    """The packaged model as a folder of one's own; its weights are linked."""
    source, target = SOURCE, tmp_path / "model"
    shutil.copytree(source, target, ignore=lambda _, names: [n for n in names if n.endswith(".safetensors")])
    (target / "model.safetensors").symlink_to(source / "model.safetensors")
    return target


def edit(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", [MINILM, f"sentence-transformers/{MINILM}", f" {MINILM} "])
def test_the_packaged_model_has_one_name_however_it_is_written(name):
    assert SentenceTransformerEmbedder(name).spec == PACKAGED


def test_the_packaged_weights_are_those_that_their_revision_stands_for():
    """Other weights in the package need another PACKAGED_REVISION."""
    weights = hashlib.sha256((SOURCE / "model.safetensors").read_bytes()).hexdigest()
    assert weights.startswith("53aa51172d142c89d9012cce15ae4d6c")
    assert PACKAGED_REVISION == "v2"


def test_hashed_vectors_are_those_that_their_revision_stands_for():
    """Other vectors need another REVISION."""
    [vector] = HashingEmbedder(8).embed(["the same words, whoever hashes them"])
    assert (HashingEmbedder(8).spec.revision, [round(float(x), 3) for x in vector]) == (
        "1",
        [0.0, 0.0, 0.0, 0.0, -0.577, -0.408, -0.577, 0.408],
    )


def test_spec_and_counting_load_neither_torch_nor_transformers():
    code = f"""
import sys
from llm_engineering.infrastructure.embedders import SentenceTransformerEmbedder
embedder = SentenceTransformerEmbedder("{MINILM}")
print(embedder.spec.size, embedder.count_tokens(["two words"]))
print([name for name in ("torch", "transformers", "sentence_transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["384 [4]", "[]"]


def test_a_folder_is_read_as_it_says(folder):
    edit(folder / "sentence_bert_config.json", max_seq_length=32)
    embedder = SentenceTransformerEmbedder(str(folder))
    revision = model_revision(folder)
    assert embedder.spec == EmbeddingSpec(model_id=str(folder), revision=revision, size=384, max_tokens=32)
    short, long = np.asarray(embedder.embed(["word " * 30, "word " * 30 + "something else entirely"]))
    assert short @ long == pytest.approx(1, abs=1e-3)  # what is beyond the limit is not seen


def test_what_the_files_do_not_say_is_asked_of_the_model(folder):
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer.json").rename(folder / "elsewhere.json")
    assert read_shape(folder) is None
    embedder = SentenceTransformerEmbedder(str(folder))
    assert embedder.spec.size == 384
    assert embedder.spec.max_tokens <= 512
    assert embedder.count_tokens(["two words"]) == [4]


def test_unusual_modules_are_left_to_the_model(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules.append(modules[0] | {"type": "sentence_transformers.models.Dense", "path": "3_Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    assert read_shape(folder) is None
    (folder / "modules.json").write_text(json.dumps(modules[:3]))
    assert read_shape(folder) == VectorShape(size=384, max_tokens=256)
    edit(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    assert read_shape(folder) is None
    (folder / "1_Pooling" / "config.json").unlink()
    assert read_shape(folder) is None


def test_vectors_are_those_of_the_models_own_encode():
    from sentence_transformers import SentenceTransformer

    texts = [f"Passage {i}. " * (1 + 7 * i % 90) for i in range(20)] + ["", "é 漢字"]
    expected = SentenceTransformer(str(SOURCE)).encode(texts, show_progress_bar=False)
    ours = SentenceTransformerEmbedder(MINILM, precision="float32").embed(texts)
    assert np.abs(ours - expected).max() < 1e-5


def test_a_model_saved_by_the_library_of_today_is_read_without_it_and_gives_the_same_vectors(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder, texts = make_tiny_embedder(tmp_path / "model"), ["abc", "a much longer text " * 20, ""]
    whole = SentenceTransformer(str(folder))
    assert (
        read_shape(folder) == VectorShape(whole.get_embedding_dimension() or 0, whole.max_seq_length or 0) == (16, 32)
    )
    ours = SentenceTransformerEmbedder(str(folder), precision="float32").embed(texts)
    assert np.abs(ours - whole.encode(texts, show_progress_bar=False)).max() < 1e-5


def test_a_question_is_embedded_by_one_thread_and_a_batch_by_all():
    import torch

    embedder = SentenceTransformerEmbedder(MINILM)
    embedder.embed(["loaded"])
    before, threads = torch.get_num_threads(), []
    embedder._model[0].register_forward_pre_hook(lambda module, given: threads.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        embedder.embed(["What did the author write about bread?"])
        embedder.embed(["Flour, water and salt make bread. " * 20])
        assert threads == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_vectors_of_tokens_are_those_of_the_models_middle_layer_and_the_model_stays_whole():
    import torch
    from transformers import AutoModel, BertTokenizer

    embedder = SentenceTransformerEmbedder(MINILM, precision="float32")
    texts = ["Flour and water make bread.", "A longer text is read beside it, and neither disturbs the other."]
    before = embedder.embed(texts)
    found = embedder.embed_tokens(texts)
    tokenizer, bert = BertTokenizer.from_pretrained(SOURCE), AutoModel.from_pretrained(SOURCE)
    for text, rows in zip(texts, found, strict=True):
        with torch.inference_mode():
            states = bert(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        middle = states[bert.config.num_hidden_layers // 2][0, 1:-1].numpy()
        assert np.abs(rows - middle / np.linalg.norm(middle, axis=1, keepdims=True)).max() < 1e-4
    assert np.abs(embedder.embed(texts) - before).max() == 0


def test_a_model_that_wants_a_prompt_gets_it(folder):
    texts = ["a dog barks", "the stock market fell"]
    plain = SentenceTransformerEmbedder(str(folder), precision="float32").embed(texts)
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    edit(folder / "config_sentence_transformers.json", **prompts)
    prompted = SentenceTransformerEmbedder(str(folder), precision="float32").embed(texts)
    by_hand = SentenceTransformerEmbedder(MINILM, precision="float32").embed([f"query: {text}" for text in texts])
    assert np.abs(prompted - by_hand).max() < 1e-5
    assert np.abs(prompted - plain).max() > 1e-2


def test_bfloat16_means_the_same_as_float32():
    texts = ["How do I fine-tune a model?", "Vectors are stored in an index. " * 30, "short"]
    exact = SentenceTransformerEmbedder(MINILM, precision="float32").embed(texts)
    fast = SentenceTransformerEmbedder(MINILM, precision="bfloat16").embed(texts)
    assert np.sum(exact * fast, axis=1) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("fpu avx512_bf16 sse", "bfloat16"), ("fpu amx_bf16", "bfloat16"), ("fpu avx2 avx512_bf16x", "float32")],
)
def test_bfloat16_is_chosen_where_the_cpu_computes_in_it(tmp_path, flags, precision):
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: {flags}\n")
    assert cpu_computes_bfloat16(tmp_path / "cpuinfo") is (precision == "bfloat16")


def test_a_cpu_that_does_not_say_computes_in_float32(tmp_path):
    assert cpu_computes_bfloat16(tmp_path / "absent") is False


@pytest.mark.parametrize("model", ["./no/such/folder", "/no/such/folder", "nobody/no-such-model", "a//b::c"])
def test_a_model_that_is_not_there_says_what_to_do(model):
    with pytest.raises(ConfigError, match=r"cannot be loaded.*(HF_HUB_OFFLINE|no such folder).*Check the id"):
        SentenceTransformerEmbedder(model).embed(["x"])


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        _ = SentenceTransformerEmbedder(str(tmp_path)).spec


def test_a_damaged_tokenizer_says_which_file(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is damaged"):
        SentenceTransformerEmbedder(str(folder)).count_tokens(["x"])


def test_without_the_ml_group_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"poetry install --with ml.*hashing:256"):
        SentenceTransformerEmbedder(MINILM).embed(["x"])


def test_wrong_settings_are_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="PRECISION=int4: use auto, float32"):
        SentenceTransformerEmbedder(MINILM, precision="int4")
    with pytest.raises(ConfigError, match="TWIN_EMBEDDER is empty"):
        SentenceTransformerEmbedder(" ")
    for size in (0, 7, 70_000):
        with pytest.raises(ConfigError, match="between 8 and 65536"):
            HashingEmbedder(size)


def test_another_size_of_hashing_is_another_spec():
    assert HashingEmbedder(64).spec != HashingEmbedder(128).spec
