"""MaxSim on token vectors that can be worked out by hand and on the real ones; a cross-encoder made on the spot."""

import sys

import numpy as np
import pytest
from tiny_embedder import write_tiny_bert

from llm_engineering.bootstrap import build_embedder, build_reranker
from llm_engineering.domain.chunks import EmbeddingSpec
from llm_engineering.domain.errors import ConfigError
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.infrastructure.embedders import HashingEmbedder, SentenceTransformerEmbedder
from llm_engineering.infrastructure.rerankers import CrossEncoderReranker, MaxSimReranker
from llm_engineering.settings import Settings


class WithoutTokens:
    """Has vectors of texts only."""

    spec = EmbeddingSpec(model_id="without tokens", revision="1", size=4)

    def embed(self, texts):
        return np.ones((len(texts), 4), np.float32)

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]


class OneAxisPerWord(WithoutTokens):
    """Counts what it is asked to embed."""

    words = ("red", "green", "blue", "bread")

    def __init__(self):
        self.asked = []

    def embed_tokens(self, texts):
        self.asked.append(list(texts))
        axes = np.eye(len(self.words), dtype=np.float32)
        return [axes[[self.words.index(word) for word in text.split()]] for text in texts]


def test_a_score_is_the_mean_over_the_question_of_the_most_alike_token():
    reranker = MaxSimReranker(OneAxisPerWord())
    scores = reranker.scores("red bread", ["bread red blue", "red green", "blue", ""])
    assert scores == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert reranker.scores("", ["red"]) == [0.0]
    assert reranker.scores("red", []) == []


def test_passages_read_before_are_remembered_and_the_oldest_forgotten():
    embedder = OneAxisPerWord()
    reranker = MaxSimReranker(embedder, remember=2)
    first = reranker.scores("red", ["red", "green"])
    assert reranker.scores("red", ["red", "blue"])[0] == first[0]
    reranker.scores("red", ["green", "blue", "green"])
    assert embedder.asked == [["red", "red", "green"], ["red", "blue"], ["red", "green"]]


def test_nothing_remembered_is_as_right():
    assert MaxSimReranker(OneAxisPerWord(), remember=0).scores("red", ["red", "green"]) == [1.0, 0.0]


def test_an_embedder_without_token_vectors_is_refused_and_says_what_to_set():
    with pytest.raises(ConfigError, match="rerank to none"):
        MaxSimReranker(WithoutTokens())


@pytest.mark.parametrize("embedder", [HashingEmbedder(256), SentenceTransformerEmbedder("all-MiniLM-L6-v2")])
def test_the_passage_that_answers_scores_best(embedder):
    texts = ["The stock market fell on Monday.", "Dogs bark at strangers to guard the house.", ""]
    scores = MaxSimReranker(embedder).scores("Why do dogs bark?", texts)
    assert max(scores) == scores[1]
    assert scores[2] == 0.0
    assert all(-1 <= score <= 1 for score in scores)


# --- cross-encoders ---


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A folder with a tiny one: random weights, a vocabulary of letters."""
    return make_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), labels=1)


def make_cross_encoder(folder, labels):
    from transformers import BertForSequenceClassification

    config = write_tiny_bert(folder)
    config.num_labels = labels
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_cross_encoder_scores_every_pair_alike_whatever_the_batch(cross_encoder):
    reranker = CrossEncoderReranker(str(cross_encoder))
    texts = [f"{'abc ' * (i % 5)} text" for i in range(20)]
    together = reranker.scores("question", texts)
    assert len(together) == 20
    assert reranker.scores("question", texts[7:8]) == pytest.approx(together[7:8], abs=1e-4)
    assert len(set(together)) > 1
    assert reranker.scores("question", []) == []


@pytest.mark.parametrize(("model_id", "says"), [("", "is empty"), ("./nowhere", "no such folder")])
def test_a_cross_encoder_that_is_not_there_says_what_to_set(model_id, says):
    with pytest.raises(ConfigError, match=rf"(?s){says}.*maxsim"):
        CrossEncoderReranker(model_id).scores("question", ["text"])


def test_a_model_that_is_on_no_hub_we_reach_says_so():
    with pytest.raises(ConfigError, match="cannot be loaded"):
        CrossEncoderReranker("nobody/no-such-model").scores("question", ["text"])


def test_without_the_ml_group_a_cross_encoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"poetry install --with ml"):
        CrossEncoderReranker("any/model").scores("question", ["text"])


def test_the_config_chooses_the_reranker():
    settings = Settings(embedder="hashing:64")
    embedder = build_embedder(settings)
    built = [
        build_reranker(settings, RetrievalConfig(rerank=which, cross_encoder="any/model"), embedder)
        for which in ("none", "maxsim", "cross-encoder")
    ]
    assert [one and one.name for one in built] == [None, "maxsim", "cross-encoder any/model"]


def test_a_classifier_is_no_reranker(tmp_path):
    folder = make_cross_encoder(tmp_path, labels=3)
    with pytest.raises(ConfigError, match="3 scores"):
        CrossEncoderReranker(str(folder)).scores("question", ["text"])
