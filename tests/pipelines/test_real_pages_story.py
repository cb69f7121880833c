"""The main job on 85 real web pages, through the commands a person types."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from llm_engineering.bootstrap import open_platform
from llm_engineering.inference.retrieval.retrieve import retrieve


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `python -m …` as a person would, in a home of its own."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:256")
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def ledger_counts(command) -> dict[str, int]:
    [author] = json.loads(command("tools.crawl_status", "--json"))["authors"]
    return {outcome: author[outcome] for outcome in ("read", "unchanged", "gone", "failed", "dead") if author[outcome]}


def chunks_by_link() -> dict[str, int]:
    with open_platform() as twin:
        reader = twin.vectors.reader(None)
        info = reader.info()
        reader.close()
        assert info is not None
        with twin.vectors.writer(info.spec) as writer:
            ids = sorted(writer.document_ids())
            found = {key: len(chunks) for key, chunks in writer.chunk_ids(ids).items()}
        return {document.link: found.get(document.id, 0) for document in twin.warehouse.documents()}


def answers(*questions: str) -> list[list[str]]:
    """For each question, the addresses of the ten best passages."""
    with open_platform() as twin:
        reader = twin.vectors.reader(None)
        try:
            found = [retrieve(question, embedder=twin.embedder, reader=reader, limit=10) for question in questions]
        finally:
            reader.close()
    return [[hit.chunk.url for hit in hits] for hits in found]


@pytest.mark.slow
def test_every_real_page_is_stored_findable_and_followed(site, shared_pages, command, tmp_path):
    gold = json.loads((shared_pages / "gold.json").read_text())
    for name in gold:
        site.page(f"/{name}", (shared_pages / "html" / name).read_bytes(), etag=True)
    config = tmp_path / "etl.yaml"
    links = [site.url(f"/{name}") for name in gold]
    fetch = {"allow_hosts": [f"127.0.0.1:{site.port}"], "per_host": 16}
    config.write_text(yaml.safe_dump({"authors": [{"name": "The Web", "links": links}], "fetch": fetch}))

    command("tools.run", "digital_data_etl", "--config", str(config))
    assert ledger_counts(command) == {"read": len(gold)}
    command("tools.run", "feature_engineering")
    chunks = chunks_by_link()
    assert len(chunks) == len(gold)
    assert all(chunks.values()), [link for link, count in chunks.items() if not count]
    segments: dict[str, str] = {name: max(page["with"], key=len) for name, page in gold.items() if page["with"]}
    found = dict(zip(segments, answers(*segments.values()), strict=True))
    missed = [name for name, urls in found.items() if site.url(f"/{name}") not in urls]
    assert len(missed) <= len(gold) // 20, missed

    served = len(site.requests)
    command("tools.run", "digital_data_etl", "--config", str(config))
    assert ledger_counts(command) == {"unchanged": len(gold)}
    assert all(
        "if-none-match" in request.headers for request in site.requests[served:] if request.path != "/robots.txt"
    )
    command("tools.run", "feature_engineering")
    assert chunks_by_link() == chunks

    edited, removed = list(gold)[:2]
    page = (shared_pages / "html" / edited).read_text(encoding="utf-8", errors="replace")
    site.page(f"/{edited}", page.replace("</p>", " The zyzzyva beetle eats quantized palms.</p>"), etag=True)
    site.remove(f"/{removed}")
    command("tools.run", "digital_data_etl", "--config", str(config))
    assert ledger_counts(command) == {"read": 1, "gone": 1, "unchanged": len(gold) - 2}
    command("tools.run", "feature_engineering")
    after = chunks_by_link()
    assert len(after) == len(gold) - 1
    new, *old = answers("zyzzyva beetle quantized palms", *gold[removed]["with"])
    assert site.url(f"/{edited}") in new
    assert not any(site.url(f"/{removed}") in urls for urls in old)
