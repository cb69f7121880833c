"""`poe traces` and `poe feedback`: what they show, and the dataset candidates they make."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_engineering.bootstrap import build_feedback, build_tracer
from llm_engineering.domain.answers import Feedback
from llm_engineering.settings import load_settings
from tools.feedback import feedback
from tools.traces import traces


@pytest.fixture
def tracer():
    """Kept where the command looks: in TWIN_HOME."""
    made = build_tracer(load_settings())
    yield made
    made.close()


@pytest.fixture
def book():
    return build_feedback(load_settings())


def run(command, *arguments):
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})


def ask(tracer, question, answer="So it is."):
    trace = tracer.start("answer")
    with trace.stage("retrieve") as facts:
        facts["hits"] = [{"id": "chunk-1", "score": 0.53}]
    with trace.stage("answer", model="m") as facts:
        facts["prompt"] = [{"role": "user", "content": "First line\nSecond line [bold]"}]
        facts["usage"] = {"prompt_tokens": 12}
    trace.finish(question=question, answer=answer, outcome="answered")
    assert tracer._writer.flush(60)
    return trace.id


# --- traces --------------------------------------------------------------------------------------------------------


def test_the_last_traces_are_shown_newest_first(tracer):
    ids = [ask(tracer, f"Question {number} [x]?") for number in range(4)]
    result = run(traces, "--limit", "3")
    assert result.exit_code == 0
    assert [line.split()[2] for line in result.output.splitlines()[1:]] == ids[:0:-1]
    for words in ("Question 3 [x]?", "answered", "retrieve ", "answer "):
        assert words in result.output


def test_one_trace_is_shown_in_full(tracer):
    ask(tracer, "Other?")
    id_ = ask(tracer, "What?")
    result = run(traces, "--id", id_)
    assert result.exit_code == 0
    for words in (
        id_,
        "What?",
        "chunk-1",
        "0.53",
        "Second line [bold]",
        '"prompt_tokens": 12',
        "model: m",
        "So it is.",
    ):
        assert words in result.output
    assert "Other?" not in result.output


def test_what_a_stranger_asked_does_not_steer_the_terminal(tracer):
    evil = "clear \x1b[2J title \x1b]0;x\x07 csi \x9b31m back \u202e end"
    trace = tracer.start("answer")
    with pytest.raises(ValueError, match="clear"), trace.stage("answer", prompt=[f"line\n{evil}"], **{evil: evil}):
        raise ValueError(evil)
    trace.finish(question=evil, answer=evil, outcome=evil)
    assert tracer._writer.flush(60)
    for shown in (run(traces), run(traces, "--id", trace.id)):
        assert "clear \\x1b[2J" in shown.output
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown.output)


def test_an_id_is_whole_however_narrow_the_terminal(tracer):
    id_ = ask(tracer, "What does a long question look like in a narrow terminal?")
    assert id_ in CliRunner().invoke(traces, [], env={"COLUMNS": "80"}).output


def test_a_failed_stage_is_shown(tracer):
    trace = tracer.start("answer", question="Why?")
    with pytest.raises(ValueError, match="red"), trace.stage("answer"):
        raise ValueError("red [alert]")
    trace.finish()
    assert tracer._writer.flush(60)
    assert "ValueError: red [alert]" in run(traces, "--id", trace.id).output


def test_json_is_one_trace_a_line(tracer):
    ids = [ask(tracer, "A?"), ask(tracer, "B?")]
    lines = [json.loads(line) for line in run(traces, "--json").output.splitlines()]
    assert [one["id"] for one in lines] == ids[::-1]
    assert lines[0]["stages"][0]["facts"]["hits"][0]["score"] == 0.53


def test_the_first_characters_of_an_id_are_enough_and_show_all_that_match(tracer):
    for _ in range(2):
        ask(tracer, "Same beginning?")
    id_ = next(iter(tracer.recent(1)))["id"]
    assert run(traces, "--id", id_[:6]).output.count("Same beginning?") == 2


def test_an_id_that_is_not_there_is_said(tracer):
    result = run(traces, "--id", "nothing")
    assert result.exit_code == 1
    assert "nothing" in result.output
    assert "traces" in result.output


@pytest.mark.parametrize(
    ("setting", "words"),
    [("jsonl", "poe serve"), ("off", "TWIN_TRACING=off"), ("opik", "They go to Opik (https://opik.example/api)")],
)
def test_where_traces_are_is_said_when_there_are_none(monkeypatch, setting, words):
    monkeypatch.setenv("TWIN_TRACING", setting)
    monkeypatch.setenv("TWIN_OPIK_URL", "https://user:hunter2@opik.example/api")
    result = run(traces)
    assert result.exit_code == 0
    assert words in " ".join(result.output.split())
    assert "hunter2" not in result.output


@pytest.mark.parametrize("command", [(traces,), (feedback, "list"), (feedback, "export", "x.jsonl")])
def test_a_wrong_setting_is_told_with_exit_code_2(monkeypatch, command):
    monkeypatch.setenv("TWIN_TRACING", "nowhere")
    result = run(*command)
    assert result.exit_code == 2
    assert "TWIN_TRACING" in result.output


# --- feedback ------------------------------------------------------------------------------------------------------


def give(book, trace_id, *, up=True, **more):
    book.add(Feedback(trace_id=trace_id, thumbs_up=up, **more))


def exported(tmp_path) -> list[dict]:
    result = run(feedback, "export", str(tmp_path / "candidates.jsonl"))
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]


def test_thumbs_up_is_chosen_and_thumbs_down_is_rejected(book, tmp_path):
    give(book, "a", question="Q1", answer="good", comment="")
    give(book, "b", up=False, question="Q2", answer="bad", comment="it is wrong ünd long")
    up, down = exported(tmp_path)
    assert (up["question"], up["chosen"], up["rejected"], up["trace_id"]) == ("Q1", "good", None, "a")
    assert (down["question"], down["chosen"], down["rejected"]) == ("Q2", None, "bad")
    assert down["comment"] == "it is wrong ünd long"
    assert down["at"]


def test_the_last_word_on_an_answer_counts_and_keeps_its_comment(book, tmp_path):
    give(book, "a", question="Q", answer="A")
    give(book, "a", question="Q", answer="A", comment="fine")
    give(book, "a", question="Q", answer="A")
    give(book, "b", question="Q", answer="A", comment="why not")
    give(book, "b", up=False, question="Q", answer="A")
    first, second = exported(tmp_path)
    assert (first["chosen"], first["comment"]) == ("A", "fine")
    assert (second["rejected"], second["comment"]) == ("A", "")


def test_what_was_not_sent_is_looked_up_in_the_trace(book, tracer, tmp_path):
    give(book, ask(tracer, "From the trace?", "Indeed."))
    give(book, "unknown")
    [one] = exported(tmp_path)
    assert (one["question"], one["chosen"]) == ("From the trace?", "Indeed.")
    assert "1 left out" in run(feedback, "export", str(tmp_path / "again.jsonl")).output


def test_nothing_is_exported_as_an_empty_file(tmp_path):
    assert exported(tmp_path) == []


def test_a_target_that_cannot_be_written_is_told_and_nothing_is_left(book, tmp_path):
    give(book, "a", question="Q", answer="A")
    (tmp_path / "file").write_text("no folder")
    result = run(feedback, "export", str(tmp_path / "file" / "x.jsonl"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    assert [path.name for path in tmp_path.glob("*file*")] == ["file"]


def test_feedback_that_cannot_be_read_is_told():
    folder = Path(load_settings().home) / "feedback.jsonl"
    folder.mkdir(parents=True)
    result = run(feedback, "list")
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_the_list_shows_the_last_words(book):
    assert "No feedback yet" in run(feedback, "list").output
    give(book, "trace-1", question="Why [x]?")
    give(book, "trace-2", up=False, comment="No [y]")
    result = run(feedback, "list")
    for words in ("Why [x]?", "No [y]", "trace-1", "1 up, 1 down"):
        assert words in result.output
