"""What every embedder keeps, whatever is inside it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from llm_engineering.infrastructure.embedders import HashingEmbedder, SentenceTransformerEmbedder


@pytest.fixture(scope="module", params=["hashing", "all-MiniLM-L6-v2"])
def embedder(request):
    return HashingEmbedder(64) if request.param == "hashing" else SentenceTransformerEmbedder(request.param)


TEXTS = [
    "a dog barks",
    "",
    "the stock market fell",
    "a dog barked loudly at the other dog",
    " \n",
    "é 漢字 👨‍👩‍👧‍👦 \0",
]


def test_rows_are_float32_of_the_promised_size_and_unit_length(embedder):
    rows = np.asarray(embedder.embed(TEXTS))
    assert rows.shape == (len(TEXTS), embedder.spec.size)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


def test_rows_come_in_the_order_given(embedder):
    rows = np.asarray(embedder.embed(TEXTS))
    for text, row in zip(TEXTS, rows, strict=True):
        assert np.asarray(embedder.embed([text]))[0] @ row == pytest.approx(1, abs=5e-3)  # batches round differently


def test_the_nearest_text_is_the_alike_one(embedder):
    dog, _, market, dogs, *_ = np.asarray(embedder.embed(TEXTS))
    assert dog @ dogs > dog @ market


def test_no_text_gives_no_rows(embedder):
    assert np.asarray(embedder.embed([])).shape == (0, embedder.spec.size)
    assert embedder.count_tokens([]) == []


def test_every_text_is_counted_whole_with_its_special_tokens(embedder):
    none, one, many = embedder.count_tokens(["", "word", "word " * 1000])
    assert (one - none, many - none) == (1, 1000)
    assert many > embedder.spec.max_tokens


def test_counting_many_is_counting_each(embedder):
    texts = [f"text {'again ' * (i % 7)}" for i in range(600)]
    assert embedder.count_tokens(texts) == [embedder.count_tokens([text])[0] for text in texts]


def test_what_is_longer_than_the_encoder_takes_is_embedded_all_the_same(embedder):
    assert np.asarray(embedder.embed(["word " * 5000])).shape == (1, embedder.spec.size)


def test_a_lone_surrogate_is_no_trouble(embedder):
    assert np.isfinite(np.asarray(embedder.embed(["half \ud83d of a pair"]))).all()
    assert embedder.count_tokens(["half \ud83d of a pair"])[0] >= 6


HASH = """
from llm_engineering.infrastructure.embedders import HashingEmbedder
print(HashingEmbedder(32).embed(["the same words, whoever hashes them"]).tolist())
"""


def test_hashed_vectors_are_the_same_in_every_process():
    said = {
        subprocess.run(
            [sys.executable, "-c", HASH],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


# --- vectors of single tokens ---------------------------------------------------------------------------------


def test_every_token_has_a_vector_of_unit_length_and_special_ones_have_none(embedder):
    for text, rows in zip(TEXTS, embedder.embed_tokens(TEXTS), strict=True):
        assert rows.shape == (embedder.count_tokens([text])[0] - 2, embedder.spec.size)
        assert rows.dtype == np.float32
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


def test_token_vectors_are_those_of_the_text_whatever_it_is_batched_with(embedder):
    alone, together = embedder.embed_tokens([TEXTS[0]])[0], embedder.embed_tokens([*TEXTS, "long " * 200])[0]
    assert (alone * together).sum(axis=1) == pytest.approx(1, abs=1e-2)


def test_no_text_gives_no_token_vectors(embedder):
    assert embedder.embed_tokens([]) == []


def test_tokens_beyond_what_the_encoder_takes_are_left_out(embedder):
    [rows] = embedder.embed_tokens(["word " * 1000])
    assert len(rows) == embedder.spec.max_tokens - 2
