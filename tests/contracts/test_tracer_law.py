"""What every tracer keeps to: it records, it never raises, it never holds anyone up."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import Answer

from llm_engineering.infrastructure.tracing import JsonlTracer, NoopTracer, OpikTracer


class Broken:
    """A fact whose own code fails."""

    def __iter__(self):
        raise RuntimeError("broken")

    @property
    def item(self):
        raise RuntimeError("broken")


@pytest.fixture(params=["jsonl", "jsonl on a full disk", "opik", "opik that is away", "off"])
def tracer(request, tmp_path, site):
    match request.param:
        case "jsonl":
            made = JsonlTracer(tmp_path / "traces")
        case "jsonl on a full disk":
            (tmp_path / "traces").write_text("a file where the folder should be")
            made = JsonlTracer(tmp_path / "traces")
        case "opik":
            for what in ("traces", "spans"):
                site.route(f"/api/v1/private/{what}/batch", lambda request: Answer(204))
            made = OpikTracer(url=site.url("/api"), fallback=tmp_path / "traces")
        case "opik that is away":
            made = OpikTracer(url="http://127.0.0.1:9/api", fallback=tmp_path / "traces")
        case _:
            made = NoopTracer(tmp_path / "traces")
    yield made
    made.close()


def test_every_trace_has_an_id_of_its_own(tracer):
    ids = [tracer.start("answer").id for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(0 < len(one) <= 100 for one in ids)


def test_recording_never_raises(tracer):
    trace = tracer.start("answer", question="\ud800", broken=Broken(), deep=[[[[[[[[[[[1]]]]]]]]]]])
    loop = {}
    loop["self"] = loop
    with trace.stage("retrieve", loop=loop) as facts:
        facts["nan"] = float("nan")
        facts["thing"] = object()
    trace.finish(answer=b"\xff")
    trace.finish(answer="twice")
    assert isinstance(tracer.recent(5), list)


def test_what_a_stage_raises_goes_through(tracer):
    trace = tracer.start("answer")
    with pytest.raises(KeyError, match="bug"), trace.stage("retrieve"):
        raise KeyError("bug")
    trace.finish()


def test_many_threads_may_trace_at_once(tracer):
    def work():
        for _ in range(20):
            trace = tracer.start("answer", question="q")
            with trace.stage("retrieve"):
                pass
            trace.finish()

    with ThreadPoolExecutor(8) as pool:
        for working in [pool.submit(work) for _ in range(8)]:
            working.result()


def test_closing_twice_and_tracing_after_it_harm_nobody(tracer):
    tracer.start("answer").finish()
    tracer.close()
    tracer.close()
    tracer.start("answer").finish()
