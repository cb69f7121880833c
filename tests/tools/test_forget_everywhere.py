"""After `poe forget` no byte of an author is left, whatever ran, was asked and answered; and the others are whole."""

import gzip
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from conftest import ROOT

from llm_engineering.bootstrap import Platform, open_platform
from llm_engineering.domain.answers import Answer, Feedback, Message, Question, Role
from llm_engineering.domain.chunks import Where
from llm_engineering.domain.documents import Author
from llm_engineering.features.config import EndToEndConfig, EtlConfig
from llm_engineering.inference.config import AskConfig, RetrievalConfig
from llm_engineering.serving.answer_service import AnswerService
from tools.forget import forget
from tools.orchestrator import Finished, start

pytestmark = pytest.mark.slow  # each runs the pipelines twice

ONCE = {"revalidate": True, "retry_failed": False, "rebuild": False}
ANN, BOB = "Ann Xylograph", "Bob"
RARE = ("zyzzyva", "xylograph")  # in Ann's folder, file names, titles and texts; in her name
BREAD = "The zyzzyva weevil spoils flour, so Ann keeps her bread flour in glass jars with tight lids."
ROBOTS = "Robots that bake need a table, a friend and a great deal of patience in the morning."


class House(NamedTuple):
    """What two authors left in a home of their own. `bobs_run` read Bob alone."""

    home: Path
    zenml: Path
    bobs_run: Finished
    bobs_trace: str

    def holding(self, word: str) -> list[Path]:
        """Files and folders with `word` in their name or, in any encoding a store uses, in their bytes."""
        forms = [form.encode(code) for form in {word, word.title(), word.upper()} for code in ("utf-8", "utf-16-le")]
        paths = [path for root in (self.home, self.zenml) for path in root.rglob("*")]
        return [path for path in paths if word in path.name.lower() or any(form in contents(path) for form in forms)]

    def databases(self) -> list[Path]:
        return [self.home / "warehouse.db", *self.zenml.rglob("zenml.db")]


def free_pages(database: Path) -> int:
    """Where what was deleted lies on, unless SQLite was built to overwrite it."""
    connection = sqlite3.connect(database)
    try:
        return connection.execute("PRAGMA freelist_count").fetchone()[0]
    finally:
        connection.close()


def contents(path: Path) -> bytes:
    """As they are on the disk, and unpacked."""
    data = path.read_bytes() if path.is_file() else b""
    return data + gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zenml_run: Callable) -> House:
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    folders = {ANN: tmp_path / "zyzzyva", BOB: tmp_path / "bob"}
    write(folders[ANN] / "zyzzyva-jars.md", f"# On the zyzzyva\n\n{BREAD}\n")
    write(folders[ANN] / "zyzzyva-empty.html", "<html><body><script>zyzzyva</script></body></html>")
    write(folders[BOB] / "robots.md", f"# On robots\n\n{ROBOTS}\n")
    bobs = start("end_to_end_data", config({BOB: folders[BOB]}), ONCE)
    both = start("end_to_end_data", config(folders, min_success_rate=0.0), ONCE)
    assert bobs.red == both.red == {}
    with open_platform() as platform:
        bobs_trace = talk(platform)
    return House(tmp_path / "twin", Path(os.environ["ZENML_CONFIG_PATH"]), bobs, bobs_trace)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def config(folders: dict[str, Path], *, min_success_rate: float = 1.0) -> EndToEndConfig:
    missing = [{"local_files": str(folders[ANN] / "missing")}] if ANN in folders else []
    lines = [
        {"name": name, "links": [{"local_files": str(folder)}, *(missing if name == ANN else ())]}
        for name, folder in folders.items()
    ]
    return EndToEndConfig(etl=EtlConfig.model_validate({"authors": lines, "min_success_rate": min_success_rate}))


def talk(platform: Platform) -> str:
    """About Ann, with a word of a reader on the answer; further in that conversation, about Bob; and about Bob alone,
    whose trace's id it gives."""
    service = AnswerService(platform, AskConfig(retrieval=RetrievalConfig(min_relevance=0.0)))
    service.load()
    first = ask(service, "Where is bread flour kept from the weevil?", author=ANN)
    assert "zyzzyva" in first.text
    service.feedback(Feedback(trace_id=first.trace_id, thumbs_up=True, question="Where?", answer=first.text))
    service.feedback(Feedback(trace_id="traces were off then", thumbs_up=False, question="?", answer=first.text))
    history = (Message(role=Role.USER, content="Where?"), Message(role=Role.ASSISTANT, content=first.text))
    further = ask(service, "And what do robots that bake need?", author=BOB, history=history)
    assert "zyzzyva" not in further.text
    alone = ask(service, "What do robots that bake need?", author=BOB)
    service.feedback(Feedback(trace_id=alone.trace_id, thumbs_up=True, question="?", answer=alone.text))
    service.close()
    return alone.trace_id


def ask(service: AnswerService, text: str, *, author: str, history: tuple[Message, ...] = ()) -> Answer:
    where = Where(author_id=Author(name=author).id)
    *_, answer = service.answer(Question(text=text, where=where, history=history))
    assert isinstance(answer, Answer)
    assert answer.answered
    return answer


def run(*words: str):
    return CliRunner().invoke(forget, words)


def assert_bob_is_whole(house: House, zenml_run: Callable) -> None:
    with open_platform() as platform:
        assert [document.author.name for document in platform.warehouse.documents()] == [BOB]
        assert {entry.author_name for entry in platform.ledger.entries()} == {BOB}
        assert [trace["id"] for trace in platform.tracer.recent(9)] == [house.bobs_trace]
        assert [one.trace_id for one in platform.feedback.all()] == [house.bobs_trace]
        service = AnswerService(platform, AskConfig(retrieval=RetrievalConfig(min_relevance=0.0)))
        service.load()
        assert "patience" in ask(service, "What do robots that bake need?", author=BOB).text
        service.close()
    kept = zenml_run(house.bobs_run.name)
    assert kept.steps["crawl_Bob"].outputs["crawl_report"][0].load().author == BOB
    assert "Bob" in kept.steps["report"].outputs["report_page"][0].load()


def test_no_byte_of_an_author_is_left_anywhere_and_the_others_are_whole(house, zenml_run):
    for word in RARE:
        assert house.holding(word)
    done = run("--author", " ann  XYLOGRAPH", "--yes")
    assert done.exit_code == 0, done.output
    for said in ("2 judged answers", "2 traces", "1 runs", "documents"):
        assert said in done.output
    for word in RARE:
        assert house.holding(word) == []
    assert [free_pages(path) for path in house.databases()] == [0, 0]
    assert_bob_is_whole(house, zenml_run)
    assert run("--author", ANN, "--yes").exit_code == 1


KILLED = """
import os, signal, sys
from tools.forget import forget
event, part = sys.argv[1:3]
sys.addaudithook(lambda name, given: name == event and part in str(given[1] if name == "os.rename" else given[0]) and
                 os.kill(os.getpid(), signal.SIGKILL))
forget(["--author", sys.argv[3], "--yes"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "part"),
    [
        pytest.param("os.rename", "feedback.jsonl", id="while the feedback is rewritten"),
        pytest.param("shutil.rmtree", "crawl_Ann_Xylograph", id="while a run is deleted"),
        pytest.param("os.rename", "CURRENT", id="while the index is published"),
        pytest.param("os.remove", "erasing", id="when all is done but the note of it"),
    ],
)
def test_an_erasure_that_was_killed_is_finished_by_repeating_it(house, zenml_run, event, part):
    words = [sys.executable, "-c", KILLED, event, part, ANN]
    killed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert house.holding("xylograph")
    done = run("--author", ANN, "--yes")
    assert done.exit_code == 0, done.output
    for word in RARE:
        assert house.holding(word) == []
    assert_bob_is_whole(house, zenml_run)
