"""Inference writes nothing: warehouse, vector store and registry are the same before and after every way to ask."""

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from api_service import WAIT, serving
from click.testing import CliRunner
from passages import fill, passage
from stores import a_document, an_entry
from tiny_model import CHAT, make_tiny_model
from waiting import until
from zenml.zen_stores.sql_zen_store import SqlZenStoreConfiguration

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import Chunk, EmbeddedChunk, IndexSpec
from llm_engineering.domain.models import ModelVersion, Stage
from llm_engineering.inference.config import AskConfig
from llm_engineering.infrastructure.zenml.connection import open_zenml
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.server import build_app
from tools.ask import main as ask

BREAD = "Flour, water and salt make a very good bread."
ASKED = {"question": "What did somebody never heard of write about flour, water and salt?"}
FILTERED = {**ASKED, "where": {"author": ["Nobody At All"]}}
QUESTION = "What do flour, water and salt make?"
CHAT_ASKED = {"model": "llm-twin", "messages": [{"role": "user", "content": QUESTION}]}
NAME = "asked"


@pytest.fixture
def platform(monkeypatch, tmp_path):
    """One document, one passage, one model in production and one in staging."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", f"registry:{NAME}")
    with open_platform() as it:
        it.warehouse.put([a_document("a")])
        it.ledger.record([an_entry("a")])
        vectors = it.embedder.embed([BREAD])
        fill(
            it.vectors, [EmbeddedChunk(passage(0, text=BREAD), vectors[0])], spec=IndexSpec(embedding=it.embedder.spec)
        )
        folder = make_tiny_model(tmp_path / "tiny", template=CHAT, context=4096)
        it.registry.register(NAME, folder, facts={"loss": 0.5})
        it.registry.register(NAME, folder, facts={"loss": 0.4})
        it.registry.promote(NAME, 1)
        it.registry.promote(NAME, 2, Stage.STAGING)
        yield it


def indexed(platform) -> list[Chunk]:
    reader = platform.vectors.reader()
    try:
        return list(reader.sample())
    finally:
        reader.close()


def rows(database: Path) -> list[str]:
    """Everything in it, as SQL."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Stored(NamedTuple):
    warehouse: list[str]
    passages: list[Chunk]
    vectors: dict[str, str]
    versions: list[ModelVersion]
    weights: list[dict[str, str]]
    registry: list[str]

    def differs_from(self, other: "Stored") -> set[str]:
        return {name for name in self._fields if getattr(self, name) != getattr(other, name)}


def everything(platform) -> Stored:
    home, versions = platform.settings.home, platform.registry.versions(NAME)
    config = open_zenml().zen_store.config
    assert isinstance(config, SqlZenStoreConfiguration)
    return Stored(
        warehouse=rows(home / "warehouse.db"),
        vectors=files(home / "vectors"),
        passages=indexed(platform),
        versions=versions,
        weights=[files(one.folder) for one in versions],
        registry=rows(Path(str(config.database))),
    )


def test_a_question_changes_nothing_in_warehouse_vector_store_or_registry(platform):
    before = everything(platform)
    assert [one.stage for one in before.versions] == ["staging", "production"]
    app = build_app(platform, AskConfig(), limits=Limits())
    with serving(app) as address, httpx.Client(base_url=address, timeout=WAIT) as client:
        until(lambda: "is still being loaded" not in client.get("/ready").text)
        answers = [
            client.post("/search", json=ASKED),
            client.post("/search", json=FILTERED),
            client.post("/rag", json=ASKED),
            client.post("/rag", json={**ASKED, "stream": True}),
            client.post("/rag", json=FILTERED),
            client.post("/v1/chat/completions", json=CHAT_ASKED),
            client.post("/v1/chat/completions", json={**CHAT_ASKED, "stream": True}),
            client.post("/feedback", json={"trace_id": "t", "thumbs_up": True}),
            client.get("/ready"),
        ]
    wrong = [(answer.url.path, answer.text[:300]) for answer in answers if answer.status_code not in (200, 201)]
    assert not wrong
    asked = CliRunner().invoke(ask, [QUESTION])
    assert asked.exit_code == 0, asked.output
    assert everything(platform).differs_from(before) == set()


def test_a_change_in_any_of_them_would_be_noticed(platform):
    before = everything(platform)
    platform.registry.promote(NAME, 2)
    (platform.registry.find(NAME, 1).folder / "config.json").touch()
    assert everything(platform).differs_from(before) == {"versions", "registry"}
    platform.warehouse.put([a_document("b")])
    vectors = platform.embedder.embed(["More."])
    fill(
        platform.vectors,
        [EmbeddedChunk(passage(1, text="More."), vectors[0])],
        spec=IndexSpec(embedding=platform.embedder.spec),
    )
    with (platform.registry.find(NAME, 1).folder / "config.json").open("a") as file:
        file.write(" ")
    assert everything(platform).differs_from(before) == set(Stored._fields)
