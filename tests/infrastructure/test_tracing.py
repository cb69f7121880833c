"""Traces: what is kept, what is left out, and what happens when the place they go to is full, slow or gone."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import numpy
import pytest
from loguru import logger
from loopback import Answer, Request, Site
from pydantic import SecretStr

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.tracing import JsonlTracer, NoopTracer, OpikTracer
from llm_engineering.infrastructure.tracing.background_writer import BackgroundWriter
from llm_engineering.infrastructure.tracing.jsonl import BLOCK, TraceFiles, find_traces, read_traces, trace_files
from llm_engineering.infrastructure.tracing.opik import PAGE
from llm_engineering.infrastructure.tracing.record import TraceRecord, new_id
from llm_engineering.infrastructure.tracing.redact import BRIEF, ITEMS, RECORD, SECRET, TEXT, redact


@pytest.fixture
def warnings():
    told = []
    handle = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")
    yield told
    logger.remove(handle)


@pytest.fixture
def tracer(tmp_path):
    made = JsonlTracer(tmp_path / "traces")
    yield made
    made.close()


def recent(tracer, limit):
    """However slow the machine: the tracer's own `recent` waits a second at most."""
    assert tracer._writer.flush(60)
    return tracer.recent(limit)


def ask(tracer, question="How?", **more):
    trace = tracer.start("answer", question=question)
    with trace.stage("understand") as facts:
        facts["queries"] = (question, "another wording")
    with trace.stage("retrieve", candidates=50) as facts:
        facts["hits"] = [{"id": "a", "score": 0.5}, {"id": "b", "score": 0.25}]
    with trace.stage("answer") as facts:
        facts |= {"prompt": "the prompt", "usage": Usage(prompt_tokens=7, completion_tokens=3)}
    trace.finish(answer="So.", **more)
    return trace.id


# --- what is kept --------------------------------------------------------------------------------------------------


def test_a_trace_id_leads_to_everything(tracer, tmp_path):
    id_ = ask(tracer)
    [trace] = recent(tracer, 5)
    assert trace["id"] == id_
    assert (trace["name"], trace["input"], trace["output"]) == ("answer", {"question": "How?"}, {"answer": "So."})
    assert datetime.fromisoformat(trace["at"]).tzinfo == UTC
    understand, retrieve, answer = trace["stages"]
    assert understand["facts"]["queries"] == ["How?", "another wording"]
    assert retrieve["facts"] == {"candidates": 50, "hits": [{"id": "a", "score": 0.5}, {"id": "b", "score": 0.25}]}
    assert answer["facts"]["prompt"] == "the prompt"
    assert answer["facts"]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "estimated": False}
    starts = [stage["start_ms"] for stage in trace["stages"]]
    assert starts == sorted(starts)
    assert all(0 <= stage["ms"] <= trace["ms"] for stage in trace["stages"])
    assert find_traces(tmp_path / "traces", id_[:20]) == [trace]


def test_the_newest_come_first(tracer):
    ids = [ask(tracer, str(number)) for number in range(5)]
    assert [trace["id"] for trace in recent(tracer, 3)] == ids[:1:-1]


def test_what_failed_is_recorded_with_its_stage(tracer):
    trace = tracer.start("answer")
    with pytest.raises(ValueError, match="x"), trace.stage("answer", prompt="p"):
        raise ValueError("x")
    trace.finish()
    [stage] = recent(tracer, 1)[0]["stages"]
    assert (stage["error"], stage["facts"]) == ("ValueError: x", {"prompt": "p"})


def test_a_reader_who_leaves_is_recorded_as_such(tracer):
    trace = tracer.start("answer")

    def answering():
        with trace.stage("answer"):
            yield "piece"

    pieces = answering()
    next(pieces)
    pieces.close()
    trace.finish()
    assert recent(tracer, 1)[0]["stages"][0]["error"] == "stopped: the reader left"


def test_only_the_first_finish_counts(tracer):
    trace = tracer.start("answer")
    trace.finish(answer="one")
    trace.finish(answer="two")
    assert [one["output"] for one in recent(tracer, 5)] == [{"answer": "one"}]


def test_what_was_recorded_does_not_change_with_what_it_was_made_of(tracer):
    hits = [1]
    trace = tracer.start("answer")
    with trace.stage("retrieve") as facts:
        facts["hits"] = hits
    trace.finish()
    hits.append(2)
    assert recent(tracer, 1)[0]["stages"][0]["facts"] == {"hits": [1]}


def test_ids_are_of_version_7_and_sort_by_age():
    assert UUID(new_id()).version == 7
    assert UUID(new_id()).variant == UUID("01890000-0000-7000-8000-000000000000").variant
    first, later = new_id(), new_id()
    assert first[:13] <= later[:13]


# --- what is left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("use sk-proj-abcDEF0123456789abcd please", "abcDEF0123456789"),
        ("key sk-" + "a1" * 20, "a1a1a1"),
        ("Authorization: Bearer abc.DEF-123", "DEF"),
        ("curl -H 'authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("bearer aB3aB3aB3aB3aB3", "aB3aB3"),
        ("mongodb://ada:hunter2@db.example/x", "hunter2"),
        ("https://:tok3n@example.com", "tok3n"),
        ("ghp_" + "A" * 36, "AAAA"),
        ("github_pat_" + "B" * 40, "BBBB"),
        ("glpat-" + "c" * 20, "cccc"),
        ("hf_" + "D" * 30, "DDDD"),
        ("xoxb-1234567890-abc", "1234567890"),
        ("AKIA" + "Q" * 16, "QQQQ"),
        ("AIza" + "E" * 35, "EEEE"),
        ("gsk_" + "F" * 40, "FFFF"),
        ("twin-" + "g" * 42 + "7", "gggg"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJ", "SflKxwRJ"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE and no end", "MIIE"),
        ("password=hunter2;", "hunter2"),
        ('{"api_key": "abc123"}', "abc123"),
    ],
)
def test_a_secret_in_a_text_is_left_out(text, secret):
    kept = redact(f"before {text} after")
    assert secret not in kept
    assert SECRET in kept
    assert kept.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "The secret of a good risk-assessment-for-everyone is a password manager.",
        "see https://example.com/a/b@2 and ask ada@example.com",
        "Bearer authentication is explained on page 3",
        "a task_description and a sketch",
        "/twin-peaks-the-return-episode-8-is-art and xai-explainable-ai-methods-overview-2024",
    ],
)
def test_ordinary_prose_stays_as_it_is(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "name", ["api_key", "X-API-Key", "Authorization", "password", "openai_api_key", "access_token", "Cookie", "token"]
)
def test_what_a_secret_name_holds_is_left_out(name):
    assert redact({name: "anything"}) == {name: SECRET}
    assert redact({"headers": [{name: ["anything"]}]}) == {"headers": [{name: SECRET}]}


def test_counts_of_tokens_are_no_secrets():
    facts = {"prompt_tokens": 3, "token_budget": 2000, "max_tokens": 5, "key": "a", "tokens": ["a"]}
    assert redact(facts) == facts


def test_secret_settings_are_left_out():
    assert redact({"x": SecretStr("hunter2")}) == {"x": SECRET}


def test_a_secret_in_an_error_is_left_out(tracer):
    trace = tracer.start("answer")
    with pytest.raises(ValueError, match="hunter2"), trace.stage("answer"):
        raise ValueError("mongodb://ada:hunter2@host is down")
    trace.finish()
    assert "hunter2" not in json.dumps(recent(tracer, 1))


def test_an_over_long_text_is_cut_with_a_note():
    kept = redact("x" * (TEXT + 5))
    assert kept == "x" * TEXT + "… [5 characters left out]"


def test_a_secret_across_the_cut_is_left_out_too():
    kept = redact("x " * (TEXT // 2 - 5) + "sk-" + "a1" * 20 + " more" * 100)
    assert "a1a1" not in kept


def test_a_record_as_a_whole_is_bounded():
    kept = redact(["x" * (TEXT - 1)] * 100)
    assert len(json.dumps(kept)) < RECORD + 100 * (BRIEF + 100)
    assert kept[-1].startswith("x" * BRIEF + "… [")


def test_long_lists_and_deep_ones_are_cut_with_a_note():
    assert redact(list(range(ITEMS + 3)))[-2:] == [ITEMS - 1, "[3 more left out]"]
    deep = []
    deep.append(deep)
    assert "[too deep]" in json.dumps(redact(deep))


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Thing:
    size: int


def test_everything_becomes_plain_json():
    kept = redact(
        {
            "pair": Pair(1, 2),
            "thing": Thing(3),
            "model": Usage(prompt_tokens=1),
            "colour": Colour.RED,
            "bytes": b"abc",
            "day": datetime(2026, 1, 2, tzinfo=UTC),
            "path": Path("a/b"),
            "error": ValueError("no"),
            "nan": float("nan"),
            "huge": 10**30,
            "numpy": numpy.float32(0.5),
            "array": numpy.zeros(3),
            "object": SimpleNamespace(password="x"),
            "surrogate": "a\ud800b",
            "none": None,
            "yes": True,
            7: "seven",
        }
    )
    assert kept == {
        "pair": {"left": 1, "right": 2},
        "thing": {"size": 3},
        "model": {"prompt_tokens": 1, "completion_tokens": 0, "estimated": False},
        "colour": "red",
        "bytes": "[3 bytes]",
        "day": "2026-01-02T00:00:00+00:00",
        "path": "a/b",
        "error": "ValueError: no",
        "nan": "nan",
        "huge": "[a huge number]",
        "numpy": 0.5,
        "array": "[ndarray]",
        "object": "[SimpleNamespace]",
        "surrogate": "a\ufffdb",
        "none": None,
        "yes": True,
        "7": "seven",
    }
    json.dumps(kept).encode()


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_are_their_owners_alone(tracer, tmp_path):
    ask(tracer)
    assert tracer._writer.flush(60)
    [path] = trace_files(tmp_path / "traces")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path):
    files = TraceFiles(tmp_path)
    files.append([{"id": "a"}, {"id": "b"}])
    [path] = trace_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])  # b's line, torn by a kill
    files.append([{"id": "c"}])
    assert [trace["id"] for trace in read_traces(tmp_path)] == ["c", "a"]


def test_foreign_lines_are_skipped(tmp_path):
    TraceFiles(tmp_path).append([{"id": "a"}])
    [path] = trace_files(tmp_path)
    path.write_bytes(b'\xff\xfe\n[1]\n{"id": 3}\n\n' + path.read_bytes())
    assert [trace["id"] for trace in read_traces(tmp_path)] == ["a"]


def test_full_files_are_followed_by_new_ones_and_the_oldest_go(tmp_path):
    files = TraceFiles(tmp_path, file_bytes=100, files=3)
    for number in range(10):
        files.append([{"id": str(number), "text": "x" * 100}])
    assert len(trace_files(tmp_path)) == 3
    assert [trace["id"] for trace in read_traces(tmp_path)] == ["9", "8", "7"]


def test_another_day_is_another_file(tmp_path):
    (tmp_path / "traces-2020-01-01-0007.jsonl").write_text('{"id": "old"}\n')
    TraceFiles(tmp_path).append([{"id": "new"}])
    names = [path.name for path in trace_files(tmp_path)]
    assert len(names) == 2
    assert names[1].endswith("-0000.jsonl")
    assert [trace["id"] for trace in read_traces(tmp_path)] == ["new", "old"]


def test_long_files_are_read_from_their_end(tmp_path):
    ids = [str(number) for number in range(50)]
    TraceFiles(tmp_path).append([{"id": one, "text": "ä" * (BLOCK // 9)} for one in ids])
    assert [trace["id"] for trace in read_traces(tmp_path)] == ids[::-1]


def test_no_folder_is_no_trace(tmp_path):
    assert list(read_traces(tmp_path / "none")) == []


# --- erasing -------------------------------------------------------------------------------------------------------

ANN = DataSubject(name="Ann Other")


def about_ann(tracer, answer="Ann keeps her bread flour in glass jars with tight lids, far from weevils."):
    trace = tracer.start("answer")
    with trace.stage("retrieve") as facts:
        facts["authors"] = [ANN.author_id]
    trace.finish(question="Where?", outcome="answered", answer=answer)
    return trace.id


def test_traces_of_a_person_and_what_was_asked_further_are_erased_and_the_others_stay(tracer, tmp_path):
    bobs = ask(tracer, "What does Bob say?")
    hers = about_ann(tracer)
    further = tracer.start("answer")
    with further.stage("answer") as facts:
        facts["prompt"] = (
            "assistant: Ann keeps her bread flour in glass\njars with tight lids, far from weevils. user: And?"
        )
    further.finish(
        outcome="answered", answer="So says somebody else, who has never been asked about anything but this."
    )
    quoting_that = ask(tracer, "Who said so says somebody else, who has never been asked about anything but this?")
    assert tracer._writer.flush(60)
    assert tracer.ids_about(ANN) == {hers, further.id}
    assert tracer.ids_about(ANN.knowing(trace_ids=[bobs])) == {hers, further.id, bobs}
    assert tracer.erase(ANN) == Erased(2)
    assert [trace["id"] for trace in recent(tracer, 9)] == [quoting_that, bobs]
    assert b"weevil" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_erasing_takes_torn_lines_and_what_a_killed_erasure_left(tracer, tmp_path):
    ask(tracer)
    assert tracer._writer.flush(60)
    [path] = trace_files(tmp_path / "traces")
    path.write_bytes(path.read_bytes() + b'{"id": "torn", "output": "weevil')
    (path.parent / f".{path.name}.x.part").write_text("weevil")
    (path.parent / ".traces-2020-01-01-0000.jsonl.x.part").write_text("weevil")
    assert tracer.erase(ANN) == Erased(0)
    assert b"weevil" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert len(recent(tracer, 9)) == 1


def test_traces_from_before_they_were_turned_off_are_erased(tracer, tmp_path):
    about_ann(tracer)
    assert tracer._writer.flush(60)
    off = NoopTracer(tmp_path / "traces")
    assert (off.holds(ANN), off.erase(ANN), off.holds(ANN)) == (1, Erased(1), 0)


def test_traces_that_cannot_be_rewritten_are_said(tracer, tmp_path):
    about_ann(tracer)
    assert tracer._writer.flush(60)
    (tmp_path / "traces" / ".lock").unlink(missing_ok=True)
    (tmp_path / "traces" / ".lock").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be rewritten"):
        tracer.erase(ANN)


# --- never in the way ----------------------------------------------------------------------------------------------


def test_a_full_queue_drops_counts_and_tells_once(warnings):
    held, began = threading.Event(), threading.Event()

    def write(records):
        began.set()
        held.wait(30)

    writer = BackgroundWriter(write, size=3)
    writer.put({"id": "first"})
    assert began.wait(60)
    for number in range(10):
        writer.put({"id": str(number)})
    assert writer.dropped == 7
    assert len(warnings) == 1
    held.set()
    writer.close()


def test_closing_does_not_wait_for_a_writer_that_hangs():
    held, began = threading.Event(), threading.Event()

    def write(records: list[TraceRecord]) -> None:
        began.set()
        held.wait(60)

    writer = BackgroundWriter(write)
    writer.put({"id": "a"})
    assert began.wait(60)
    writer.close(0.05)
    assert not held.is_set(), "it came back although the writer still hangs"
    assert not writer.flush(0.05)
    assert writer.dropped == 1
    writer.close(100)  # the first call counts
    held.set()


def test_what_was_not_written_at_the_end_goes_elsewhere_once():
    held, began, elsewhere = threading.Event(), threading.Event(), []

    def write(records):
        began.set()
        held.wait(60)
        raise OSError("too late")

    writer = BackgroundWriter(write, fallback=elsewhere.extend)
    writer.put({"id": "on its way"})
    assert began.wait(60)
    writer.put({"id": "waiting"})
    writer.close(0.05)
    held.set()
    assert writer._thread
    writer._thread.join(60)
    assert elsewhere == [{"id": "on its way"}, {"id": "waiting"}]
    assert writer.dropped == 0


def test_a_failing_writer_loses_its_records_and_no_more(warnings):
    written, fail = [], [True]

    def write(records):
        if fail[0]:
            raise OSError(28, "No space left on device")
        written.extend(records)

    writer = BackgroundWriter(write)
    writer.put({"id": "lost"})
    assert writer.flush(10)
    fail[0] = False
    writer.put({"id": "kept"})
    writer.close(60)
    assert written == [{"id": "kept"}]
    assert writer.dropped == 1
    assert "No space left" in warnings[0]


def test_what_neither_place_takes_is_counted_and_told(warnings):
    def away(records):
        raise ConnectionError("nobody there")

    def full(records):
        raise OSError(28, "No space left on device")

    writer = BackgroundWriter(away, fallback=full)
    writer.put({"id": "lost"})
    writer.close(60)
    assert writer.dropped == 1
    assert "No space left" in warnings[0]


def test_a_tracer_that_was_never_used_closes_at_once(tmp_path):
    JsonlTracer(tmp_path / "traces").close()
    assert not (tmp_path / "traces").exists()


CHILD = """
import sys
from pathlib import Path
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.tracing import JsonlTracer, NoopTracer, OpikTracer
folder = Path(sys.argv[1])
tracer = OpikTracer(url=sys.argv[2], fallback=folder) if len(sys.argv) > 2 else JsonlTracer(folder)
for number in range(50):
    tracer.start("answer", question=str(number)).finish()
print("traced", flush=True)
if sys.stdin.read(1) == "k":
    sys.stdin.read()
"""


def child(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_process_that_ends_without_closing_loses_no_trace(tmp_path):
    process = child(tmp_path)
    process.communicate("", timeout=60)
    assert process.returncode == 0
    assert sum(1 for _ in read_traces(tmp_path)) == 50


def test_kill_9_leaves_whole_lines(tmp_path):
    process = child(tmp_path)
    assert process.stdout.readline() == "traced\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    for trace in read_traces(tmp_path):
        assert trace["name"] == "answer"
    TraceFiles(tmp_path).append([{"id": "after"}])
    assert next(read_traces(tmp_path))["id"] == "after"


def silent(connection, leave):
    leave.wait(120)


def dripping(connection, leave):
    connection.sendall(b"HTTP/1.1 204 -\r\nX-Slow: ")
    while not leave.wait(0.2):
        connection.sendall(b"x")


def failing(connection, leave):
    connection.sendall(b"HTTP/1.1 500 -\r\nContent-Length: 0\r\n\r\n")


def garbled(connection, leave):
    connection.sendall(b"\x00\xff" * 1000)


@pytest.mark.parametrize(
    "talk", [silent, dripping, failing, garbled, None], ids=lambda talk: getattr(talk, "__name__", "down")
)
def test_a_process_ends_whatever_opik_does_and_its_traces_are_in_the_files(tmp_path, site, talk):
    """Silent and dripping servers hold a request for longer than anyone would wait."""
    leave = threading.Event()
    if talk:
        site.wire("/api/v1/private/traces/batch", lambda connection: talk(connection, leave))
    else:
        site.close()
    process = child(tmp_path, site.url("/api"))
    try:
        _, said = process.communicate("", timeout=100)  # the server would hold it for 120 s
    finally:
        leave.set()
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in said
    assert {trace["input"]["question"] for trace in read_traces(tmp_path)} == {str(number) for number in range(50)}


# --- Opik ----------------------------------------------------------------------------------------------------------


class Opik:
    """Takes what Opik's REST API takes, remembers it, gives it page by page and deletes it."""

    def __init__(self, site: Site) -> None:
        self.traces: list[TraceRecord] = []
        self.spans: list[TraceRecord] = []
        self.headers: list[dict[str, str]] = []
        self.status = 204
        site.route("/api/v1/private/traces/batch", lambda request: self._take(request, "traces", self.traces))
        site.route("/api/v1/private/spans/batch", lambda request: self._take(request, "spans", self.spans))
        site.route("/api/v1/private/traces/delete", self._delete)
        for page in range(1, 10):
            for what, kept in (("traces", self.traces), ("spans", self.spans)):
                site.route(
                    f"/api/v1/private/{what}?project_name=llm-twin&page={page}&size={PAGE}&truncate=false",
                    lambda _, kept=kept, page=page: self._page(kept, page),
                )

    def _take(self, request: Request, what: str, kept: list[TraceRecord]) -> Answer:
        self.headers.append(request.headers)
        if self.status == 204:
            kept.extend(json.loads(request.body)[what])
        return Answer(self.status)

    def _page(self, kept: list[TraceRecord], page: int) -> Answer:
        content = {"content": kept[(page - 1) * PAGE : page * PAGE]}
        return Answer(200, json.dumps(content).encode()) if self.status == 204 else Answer(self.status)

    def _delete(self, request: Request) -> Answer:
        gone = json.loads(request.body)["ids"]
        self.traces[:] = [one for one in self.traces if one["id"] not in gone]
        self.spans[:] = [one for one in self.spans if one["trace_id"] not in gone]
        return Answer(204)


@pytest.fixture
def opik(site):
    return Opik(site)


def test_opik_gets_the_trace_and_one_span_for_each_stage(site, opik, tmp_path):
    tracer = OpikTracer(url=site.url("/api/"), api_key="k3y", workspace="team", fallback=tmp_path / "traces")
    id_ = ask(tracer)
    trace = tracer.start("answer", question="bad")
    with pytest.raises(ValueError, match="why"), trace.stage("answer", model="m"):
        raise ValueError("why: because")
    trace.finish()
    assert tracer._writer.flush(60)
    tracer.close()
    first, second = opik.traces
    assert first["id"] == id_
    assert first["project_name"] == "llm-twin"
    assert (first["input"], first["output"]) == ({"question": "How?"}, {"answer": "So."})
    assert datetime.fromisoformat(first["start_time"]) <= datetime.fromisoformat(first["end_time"])
    assert second["error_info"] == {"exception_type": "ValueError", "message": "why: because", "traceback": ""}
    spans = [span for span in opik.spans if span["trace_id"] == id_]
    assert [span["name"] for span in spans] == ["understand", "retrieve", "answer"]
    assert [span["type"] for span in spans] == ["general", "general", "llm"]
    assert spans[2]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert opik.spans[-1]["model"] == "m"
    assert {UUID(span["id"]).version for span in opik.spans} == {7}
    assert (opik.headers[0]["authorization"], opik.headers[0]["comet-workspace"]) == ("k3y", "team")
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize("status", [401, 429, 500])
def test_what_opik_does_not_take_is_kept_here_and_told_once(site, opik, tmp_path, warnings, status):
    opik.status = status
    tracer = OpikTracer(url=site.url("/api").replace("//", "//user:hunter2@"), api_key="k3y", fallback=tmp_path)
    for _ in range(3):
        ask(tracer)
        assert recent(tracer, 1)
    assert len(recent(tracer, 9)) == 3
    assert tracer.dropped == 0
    tracer.close()
    assert len(warnings) == 1
    assert f"HTTP {status}" in warnings[0]
    assert "TWIN_OPIK_URL" in warnings[0]
    assert "k3y" not in warnings[0]
    assert "hunter2" not in warnings[0]
    assert site.hits("/api/v1/private/traces/batch") == 1, "a server that failed is left in peace for a while"


def test_opik_is_asked_again_after_a_while(site, opik, tmp_path, warnings):
    now = [0.0]
    opik.status = 500
    tracer = OpikTracer(url=site.url("/api"), fallback=tmp_path, rest=60, clock=lambda: now[0])
    ask(tracer)
    assert len(recent(tracer, 9)) == 1
    opik.status, now[0] = 204, 61.0
    ask(tracer)
    recent(tracer, 1)
    assert len(opik.traces) == 1
    assert len(recent(tracer, 9)) == 1
    tracer.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "nonsense", "http://[broken"])
def test_without_a_server_traces_stay_here(tmp_path, warnings, url):
    tracer = OpikTracer(url=url, fallback=tmp_path)
    ask(tracer)
    assert len(recent(tracer, 9)) == 1
    tracer.close()
    assert len(warnings) == 1
    assert "they go to" in warnings[0]
    assert tracer.dropped == 0


def test_a_key_no_header_can_hold_loses_no_trace(site, tmp_path, warnings):
    tracer = OpikTracer(url=site.url("/api"), api_key="geheim\u00e4", fallback=tmp_path)
    ask(tracer)
    assert len(recent(tracer, 9)) == 1
    tracer.close()
    assert "geheim" not in warnings[0]


def test_an_answer_of_opiks_without_an_end_holds_up_nothing(site, tmp_path):
    taken = []

    def answer(request):
        taken.extend(json.loads(request.body)["traces"])
        return Answer(200, (b"x" * 2**16 for _ in count()))

    site.route("/api/v1/private/traces/batch", answer)
    site.route("/api/v1/private/spans/batch", lambda request: Answer(204))
    tracer = OpikTracer(url=site.url("/api"), fallback=tmp_path)
    ids = []
    for _ in range(2):
        ids.append(ask(tracer))
        assert tracer._writer.flush(60)
    tracer.close()
    assert [trace["id"] for trace in taken] == ids
    assert list(read_traces(tmp_path)) == []


def test_only_the_spans_may_be_refused(site, opik, tmp_path):
    """The trace is in Opik then, and whole in the files."""
    site.route("/api/v1/private/spans/batch", lambda request: Answer(413))
    tracer = OpikTracer(url=site.url("/api"), fallback=tmp_path)
    id_ = ask(tracer)
    assert [trace["id"] for trace in recent(tracer, 9)] == [id_]
    tracer.close()


def test_a_person_is_erased_from_opik_and_nobody_else(site, opik, tmp_path):
    tracer = OpikTracer(url=site.url("/api"), api_key="k3y", fallback=tmp_path)
    others = [ask(tracer, f"What about {number}?") for number in range(PAGE + 5)]
    hers = ask(tracer, "What does Ann Other say?")
    assert tracer._writer.flush(60)
    opik.status = 500
    kept_here = about_ann(tracer)
    assert tracer._writer.flush(60)
    opik.status = 204
    assert tracer.ids_about(ANN) == {hers, kept_here}
    assert tracer.holds(ANN) == 2
    assert tracer.erase(ANN) == Erased(2)
    assert [trace["id"] for trace in opik.traces] == others
    assert {span["trace_id"] for span in opik.spans} == set(others)
    assert list(read_traces(tmp_path)) == []
    assert tracer.erase(ANN) == Erased(0)
    tracer.close()


def test_a_project_that_opik_does_not_know_holds_nothing(site, tmp_path):
    assert OpikTracer(url=site.url("/api"), fallback=tmp_path).erase(ANN) == Erased(0)


@pytest.mark.parametrize("url", ["http://user:hunter2@127.0.0.1:9/api", "http://[broken"])
def test_an_opik_that_is_away_says_what_has_to_be_deleted_there(tmp_path, url):
    with pytest.raises(StoreUnavailable, match="delete the traces of the project llm-twin there") as caught:
        OpikTracer(url=url, fallback=tmp_path).erase(ANN)
    assert "hunter2" not in str(caught.value)
