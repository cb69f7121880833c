"""SIGKILL at random moments of every job that writes. `poe bench kills` does the same a hundred times."""

import os
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tools.bench.kill_jobs import JOBS, OLD_EXPORT, prepared, state_of
from tools.bench.kills import broken_export, killed_and_done

KILLS = 2  # of each job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("kills"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_was_killed_ends_where_an_uninterrupted_one_ends(places, job):
    seed = int(os.environ.get("KILLS_SEED") or SystemRandom().randrange(1_000_000))
    print(f"KILLS_SEED={seed}")
    tally = killed_and_done(job, places / job, KILLS, Random(seed))
    assert tally.wrong == (), f"KILLS_SEED={seed}"
    assert tally.landed, "every job was done before it could be killed"


def test_what_is_compared_is_all_that_a_reader_sees(places):
    """A state of which a part is missing is told from the whole one, by the part's name."""
    before, after = state_of(places / "features"), state_of(places / "forget")
    assert after.documents
    assert after.links
    assert after.chunks
    assert all(after.found)
    assert after.waiting == 0
    assert before.waiting > 0
    assert before.documents == after.documents
    assert before.differs_from(after) == "chunks, found, waiting"
    assert after.differs_from(after) == ""


def test_half_an_export_is_seen(places):
    export, whole = places / "export" / "export.jsonl", state_of(places / "import")
    try:
        export.write_bytes(whole.export[:-100])
        assert broken_export("export", places / "export", whole) == "half an export"
        export.write_bytes(whole.export)
        assert broken_export("export", places / "export", whole) == ""
    finally:
        export.write_bytes(OLD_EXPORT)
    assert broken_export("export", places / "export", whole) == ""
