"""SIGKILL at random moments of every job that writes: done again, each ends where an uninterrupted one ends.

A job begins in a copy of the same prepared folder every time, is killed somewhere between its first and its last
moment, and is then done to the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

from tools.bench.kill_jobs import JOBS, OLD_EXPORT, State, copied, prepared, state_of
from tools.bench.result import Bar, Benchmark

KILLS = 100  # of all jobs together
TRIES = 6  # for one kill that meets the job at work
LONGEST = 300.0  # seconds of one job, after which it counts as one that does not end


class Tally(NamedTuple):
    job: str
    landed: int  # kills that met the job at work
    seconds: float  # of an uninterrupted one
    wrong: tuple[str, ...] = ()  # what was otherwise after a kill


def measure(kills: int = KILLS, seed: int | None = None) -> Benchmark:
    """`kills` are spread over the jobs; the seed is a figure, so that a failure can be tried again."""
    seed = seed or int.from_bytes(os.urandom(3))
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="llm-twin-kills-") as folder:
        places = prepared(Path(folder))
        share = {job: kills // len(JOBS) + (number < kills % len(JOBS)) for number, job in enumerate(JOBS)}
        tallies = [killed_and_done(job, places / job, times, random) for job, times in share.items()]
    wrong = [f"{one.job}: {what}" for one in tallies for what in one.wrong]
    return Benchmark(
        name="kills",
        bars=(
            Bar(what="states other than without a kill", value=len(wrong), unit="states", at_most=0),
            Bar(
                what="kills that met a job at work",
                value=sum(one.landed for one in tallies),
                unit="kills",
                at_least=kills,
            ),
        ),
        figures={one.job: f"{one.landed} kills, {one.seconds:.2f} s undisturbed" for one in tallies}
        | {"seed": str(seed)}
        | ({"wrong": "; ".join(wrong)} if wrong else {}),
    )


def killed_and_done(job: str, place: Path, times: int, random: Random) -> Tally:
    """`times` kills that met the job at work, each on a fresh copy of `place`."""
    calm = copied(place)
    seconds = finished(job, calm)
    right = state_of(calm)
    shutil.rmtree(calm)
    wrong, landed, tries = [], 0, 0
    while landed < times and tries < TRIES * times:
        tries += 1
        wild = copied(place)
        moment = random.random() * seconds / (1 + tries // 3)  # earlier, where it is faster than it was
        if killed(job, wild, moment):
            landed += 1
            at = f"killed after {moment * 1000:.0f} ms"
            if what := broken_export(job, wild, right):
                wrong.append(f"{at}: {what}")
            finished(job, wild)
            if what := state_of(wild).differs_from(right):
                wrong.append(f"{at}: other {what}")
        shutil.rmtree(wild)
    return Tally(job, landed, seconds, tuple(wrong))


def broken_export(job: str, place: Path, right: State) -> str:
    """An export that was cut short leaves none, the old one or the new one, never half of one."""
    file = place / "export.jsonl"
    if job != "export" or not file.exists() or file.read_bytes() in (right.export, OLD_EXPORT):
        return ""
    return "half an export"


# --- a job in a process of its own -----------------------------------------------------------------------------


def start(job: str, place: Path) -> subprocess.Popen[str]:
    """It has said that it begins: everything is imported."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TWIN_")}
    ours = {"TWIN_HOME": str(place / "home"), "TWIN_EMBEDDER": "hashing:64"}
    places = {"ZENML_CONFIG_PATH": str(place.parent / "zenml"), "TMPDIR": str(place.parent / "tmp")}
    Path(places["TMPDIR"]).mkdir(exist_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.kill_jobs", job, str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**outside, **ours, **places},
        start_new_session=True,
    )
    assert child.stdout
    if child.stdout.readline() != "begin\n":
        raise RuntimeError(f"{job} did not begin: {child.communicate()[1][-2000:]}")
    return child


def finished(job: str, place: Path) -> float:
    """Done to its end; the seconds it took. Raises RuntimeError when it fails or does not end."""
    child = start(job, place)
    began = time.perf_counter()
    try:
        _, errors = child.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise RuntimeError(f"{job} did not end within {LONGEST:g} s") from None
    if child.returncode:
        raise RuntimeError(f"{job} failed: {errors[-2000:]}")
    return time.perf_counter() - began


def killed(job: str, place: Path, moment: float) -> bool:
    """Whether it was still at work when it was killed."""
    child = start(job, place)
    time.sleep(moment)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    return child.returncode == -signal.SIGKILL
