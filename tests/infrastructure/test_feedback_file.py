"""Feedback is durable, survives torn lines, and takes any number of writers."""

import multiprocessing
import resource
import signal
import threading
from datetime import UTC, datetime

import pytest
from loguru import logger

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.infrastructure.feedback import JsonlFeedback


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "feedback.jsonl"


def word(trace_id="t", **more: object) -> Feedback:
    return Feedback.model_validate({"trace_id": trace_id, "thumbs_up": True} | more)


def test_what_was_added_is_there_oldest_first_with_its_time(path):
    before = datetime.now(UTC)
    JsonlFeedback(path).add(word("a", comment="Gut!\nSehr gut 👍"))
    JsonlFeedback(path).add(word("b", thumbs_up=False, at=datetime(2026, 1, 2, tzinfo=UTC)))
    first, second = JsonlFeedback(path).all()
    assert (first.trace_id, first.comment) == ("a", "Gut!\nSehr gut 👍")
    assert first.at
    assert before <= first.at <= datetime.now(UTC)
    assert second.at == datetime(2026, 1, 2, tzinfo=UTC)
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_yet_is_no_feedback(path):
    assert list(JsonlFeedback(path).all()) == []


def test_a_torn_line_is_skipped_told_and_harms_no_other(path):
    book, told = JsonlFeedback(path), []
    book.add(word("a"))
    book.add(word("b"))
    path.write_bytes(path.read_bytes()[:-9])
    book.add(word("c"))
    handle = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")
    assert [one.trace_id for one in book.all()] == ["a", "c"]
    logger.remove(handle)
    assert told == ["feedback.jsonl line 2 is no feedback; skipped"]


def test_foreign_lines_are_skipped(path):
    book = JsonlFeedback(path)
    book.add(word("a"))
    path.write_bytes(b'\xff\n[]\n{"trace_id": "x"}\n' + path.read_bytes())
    assert [one.trace_id for one in book.all()] == ["a"]


def test_threads_and_processes_may_add_at_once(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(path, f"p{n}")) for n in range(2)]
    threads = [threading.Thread(target=_add_many, args=(path, f"t{n}")) for n in range(4)]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join()
    assert len({one.trace_id for one in JsonlFeedback(path).all()}) == 6 * 25


def _add_many(path, name):
    for number in range(25):
        JsonlFeedback(path).add(Feedback(trace_id=f"{name}-{number}", thumbs_up=True, comment="x" * 500))


def test_a_place_that_cannot_be_written_is_said_without_its_path(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"feedback\.jsonl cannot be written .*free the disk") as caught:
        JsonlFeedback(tmp_path / "home" / "feedback.jsonl").add(word())
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(path):
    path.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        list(JsonlFeedback(path).all())


def test_a_full_disk_leaves_no_half_line(path):
    book = JsonlFeedback(path)
    book.add(word("a"))
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))
    try:
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            book.add(word("b", comment="x" * 500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.stat().st_size == size
    book.add(word("c"))
    assert [one.trace_id for one in book.all()] == ["a", "c"]


def test_what_names_a_person_or_an_answer_of_theirs_is_erased_and_the_rest_stays(path):
    book, ann = JsonlFeedback(path), DataSubject(name="Ann Other", trace_ids=frozenset(["t1"]))
    for one in (word("t1"), word("t2", comment="Ann  other knows it"), word("t3", comment="another", answer="Anna")):
        book.add(one)
    path.write_bytes(path.read_bytes() + b'{"trace_id": "torn", "answer": "Ann')
    (path.parent / f".{path.name}.x.part").write_text("Ann Other")
    assert (book.holds(ann), book.erase(ann), book.holds(ann)) == (2, Erased(2), 0)
    assert [one.trace_id for one in book.all()] == ["t3"]
    assert b"Ann Other" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert path.stat().st_mode & 0o077 == 0
    book.add(word("t1"))
    assert book.erase(ann) == Erased(1)
    assert JsonlFeedback(path.parent / "none" / "none.jsonl").erase(ann) == Erased(0)


def test_what_is_added_while_a_person_is_erased_is_kept(path):
    book, ann = JsonlFeedback(path), DataSubject(name="Ann Other")
    adding = [threading.Thread(target=_add_many, args=(path, f"t{n}")) for n in range(4)]
    for one in adding:
        one.start()
    while any(one.is_alive() for one in adding):
        book.add(word("hers", comment="Ann Other"))
        book.erase(ann)
    assert len({one.trace_id for one in book.all()}) == 4 * 25
