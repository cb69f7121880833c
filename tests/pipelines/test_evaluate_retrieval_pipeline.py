"""The evaluation of retrieval in a real ZenML: its page is there whether it ends green or red."""

import json

from openai_endpoint import Endpoint
from passages import fill, passage

from llm_engineering.bootstrap import open_platform
from llm_engineering.domain.chunks import EmbeddedChunk, IndexSpec
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.operate.retrieval_evaluation import accept, accepted_file
from tools.orchestrator import start

SMALL = RetrievalEvaluationConfig(queries=12, resamples=100)


def publish(platform) -> None:
    chunks = [
        passage(
            i,
            document=i,
            text=f"## On mending {name} well\n\nWhoever has {name} and mends them in {1900 + i} needs patience, a "
            f"table and a friend{' again' * i}.",
            title=f"The long book of {name}",
            headings=(f"The long book of {name}", f"On mending {name} well"),
        )
        for i, name in enumerate(("bread", "robots", "gardens", "engines", "glaciers", "violins"))
    ]
    rows = platform.embedder.embed([chunk.text for chunk in chunks])
    pairs = [EmbeddedChunk(*pair) for pair in zip(chunks, rows, strict=True)]
    fill(platform.vectors, pairs, spec=IndexSpec(embedding=platform.embedder.spec))


def test_a_run_leaves_its_report_and_page_and_a_later_fall_is_red(monkeypatch, zenml_run):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    with open_platform() as platform:
        publish(platform)
        finished = start("evaluate_retrieval", SMALL, {})
        assert finished.red == {}
        run = zenml_run(finished.name)
        assert run.status == "completed"
        [report] = finished.record.of(RetrievalReport)
        assert report.of(report.best).questions > 0
        assert "<svg" in run.steps["report"].outputs["report_page"][0].load()

        accept(report, platform.settings)
        file = accepted_file(platform.settings)
        better = json.loads(file.read_text())
        for scores in better["scores"]:
            scores["measures"]["mrr@10"]["value"] += 0.5
        file.write_text(json.dumps(better))
        finished = start("evaluate_retrieval", SMALL, {})
        assert "retrieval got worse" in " ".join(finished.red.values())
        run = zenml_run(finished.name)
        assert run.status == "failed"
        assert 'class="state red"' in run.steps["report"].outputs["report_page"][0].load()


def test_nothing_indexed_is_red_and_says_what_to_run(monkeypatch, zenml_run):
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    finished = start("evaluate_retrieval", SMALL, {})
    assert "poe run-features" in " ".join(finished.red.values())
    assert zenml_run(finished.name).status == "failed"


def test_questions_are_also_written_by_the_configured_language_model(monkeypatch, new_site):
    """The builder of language models was once called without its embedder, and every such run ended in a TypeError."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    monkeypatch.setenv("TWIN_LANGUAGE_MODEL", "openai:writer")
    endpoint = Endpoint(new_site())
    endpoint.says("What does a person who mends things need?")
    monkeypatch.setenv("TWIN_OPENAI_BASE_URL", endpoint.url)
    with open_platform() as platform:
        publish(platform)
    finished = start("evaluate_retrieval", SMALL.model_copy(update={"generated": 4}), {})
    assert finished.red == {}
    [report] = finished.record.of(RetrievalReport)
    assert report.questions["question"] == 4
