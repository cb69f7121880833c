"""Two runs at once, and a run that is stopped: nothing is lost, nothing is half-written, the colour is right."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import yaml
from conftest import ROOT
from loopback import Answer

from llm_engineering.bootstrap import open_platform


@pytest.fixture
def begin(monkeypatch):
    """Starts `python -m tools.run …` as its own process; killed after the test if it still lives."""
    monkeypatch.setenv("TWIN_EMBEDDER", "hashing:64")
    started = []

    def run(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tools.run", *map(str, words)]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield run
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def stored() -> tuple[int, int]:
    """(documents, of these in the index)"""
    with open_platform() as twin:
        reader = twin.vectors.reader()
        try:
            found = {document.id for document in twin.warehouse.documents()}
            indexed = reader.count() if reader.info() else 0
            return len(found), indexed
        finally:
            reader.close()


@pytest.mark.slow
def test_two_runs_at_once_lose_nothing_and_say_who_is_writing(begin, notes, config_file):
    authors = {name: {"authors": [{"name": name, "links": [{"local_files": str(notes(name, 20))}]}]} for name in "AB"}
    configs = [config_file(yaml.safe_dump({"etl": etl}), f"{name}.yaml") for name, etl in authors.items()]
    runs = [begin("end_to_end_data", "--config", config) for config in configs]
    for run in runs:
        out, err = run.communicate(timeout=200)
        # whoever came second to the index is told so; the documents of both are stored in any case
        assert run.returncode == 0 or (run.returncode == 1 and "is being written by process" in err), out + err
    last = begin("feature_engineering", "--config", config_file("", "features.yaml"))
    out, err = last.communicate(timeout=200)

    assert last.returncode == 0, out + err
    assert stored() == (40, 40)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_read_and_the_next_run_goes_on(begin, site, config_file):
    asked, go_on = threading.Event(), threading.Event()

    def slow(request):
        asked.set()
        go_on.wait(60)
        return Answer(200, page("slow"), {"Content-Type": "text/html"})

    site.page("/quick", page("quick"))
    site.route("/slow", slow)
    site.page("/robots.txt", "", media="text/plain")
    links = [site.url("/quick"), site.url("/slow"), *(site.url(f"/later{n}") for n in range(5))]
    for n in range(5):
        site.page(f"/later{n}", page(f"later {n}"))
    host = f"127.0.0.1:{site.port}"
    fetch = {"allow_hosts": [host], "own_hosts": [host], "concurrency": 1}
    config = config_file({"authors": [{"name": "Ann", "links": links}], "fetch": fetch})

    stopped = begin("digital_data_etl", "--config", config)
    assert asked.wait(120)
    stopped.send_signal(signal.SIGINT)
    line = stopped.stderr.readline()
    go_on.set()
    out, err = stopped.communicate(timeout=120)
    assert "Stopping" in line
    assert stopped.returncode == 130, out + err
    assert "run again" in err
    assert "Traceback" not in err
    with open_platform() as twin:
        before = twin.warehouse.count()
    assert 1 <= before < len(links)

    again = begin("digital_data_etl", "--config", config)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert site.hits("/quick") == 1
    with open_platform() as twin:
        assert twin.warehouse.count() == len(links)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(begin, site, config_file):
    asked, go_on = threading.Event(), threading.Event()

    def never(request):
        asked.set()
        go_on.wait(120)
        return Answer(200, "late")

    site.route("/never", never)
    host = f"127.0.0.1:{site.port}"
    fetch = {"allow_hosts": [host], "own_hosts": [host]}
    config = config_file({"authors": [{"name": "Ann", "links": [site.url("/never")]}], "fetch": fetch})
    run = begin("digital_data_etl", "--config", config)
    assert asked.wait(120)
    run.send_signal(signal.SIGINT)
    assert "Stopping" in run.stderr.readline()
    run.send_signal(signal.SIGINT)
    try:
        assert run.wait(timeout=120) == 130
    finally:
        go_on.set()


def page(title: str) -> str:
    words = " ".join(f"Sentence number {n} about {title} has something to say." for n in range(20))
    return f"<html><head><title>{title}</title></head><body><article><h1>{title}</h1><p>{words}</p></article></body>"
