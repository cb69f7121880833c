"""Who may ask, and how much."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from loguru import logger

from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.serving.api import keys
from llm_engineering.serving.api.errors import ApiError
from llm_engineering.serving.api.keys import KeyRing
from llm_engineering.serving.api.limits import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "api_keys.json"


@pytest.fixture
def ring(file, clock):
    return KeyRing(file, now=clock)


def test_a_key_is_found_by_its_secret_which_is_not_stored(ring, file):
    key, secret = ring.add("Search team", rate=5, quota=9)
    assert ring.find(secret) == key
    assert (key.team, key.rate, key.quota) == ("Search team", 5, 9)
    assert secret not in file.read_text()
    assert key.hash in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_two_secrets_are_alike_and_each_has_256_bits(ring):
    secrets = {ring.add("a")[1] for _ in range(20)}
    assert len(secrets) == 20
    assert {len(secret) for secret in secrets} == {len("twin-") + 43}


@pytest.mark.parametrize("secret", ["twin-wrong", "", "x" * 10_000, "\ud800"])
def test_an_unknown_key_is_refused_with_the_way_to_get_one(ring, secret):
    ring.add("a")
    with pytest.raises(ApiError, match=r"not known.*poe serve-keys add TEAM") as error:
        ring.find(secret)
    assert error.value.status == 401


def test_a_key_ends_when_it_expires(ring, clock):
    _, secret = ring.add("a", expires=clock.now + timedelta(hours=1))
    ring.find(secret)
    assert ring.any_active()
    clock.passes(hours=1)
    with pytest.raises(ApiError, match="this API key is expired"):
        ring.find(secret)
    assert not ring.any_active()


def test_a_revoked_key_ends_at_once_also_for_whoever_has_the_file_open(ring, file, clock):
    running = KeyRing(file, now=clock)
    key, secret = ring.add("a")
    assert running.find(secret) == key
    ring.revoke(key.id)
    with pytest.raises(ApiError, match="this API key is revoked"):
        running.find(secret)


def test_only_a_key_that_is_there_can_be_revoked(ring):
    key, _ = ring.add("a")
    with pytest.raises(ConfigError, match=f"'nothing'; there are: {key.id}"):
        ring.revoke("nothing")
    ring.revoke(key.id)
    with pytest.raises(ConfigError, match="there are: none"):
        ring.revoke(key.id)


@pytest.mark.parametrize("wrong", [{"team": " "}, {"team": "a", "rate": 0}, {"team": "a", "quota": -1}])
def test_a_key_that_makes_no_sense_is_not_made(ring, file, wrong):
    with pytest.raises(ConfigError):
        ring.add(**wrong)
    assert not file.exists()


def test_a_key_that_has_ended_already_is_not_made(ring, clock):
    with pytest.raises(ConfigError, match="would have expired"):
        ring.add("a", expires=clock.now)


def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(ring, file):
    file.parent.mkdir()
    file.write_text("[{")
    for ask in (lambda: ring.find("x"), lambda: ring.add("a"), ring.any_active):
        with pytest.raises(StoreUnavailable, match="is damaged"):
            ask()
    assert file.read_text() == "[{"


def test_a_place_that_cannot_be_read_or_written_is_named(ring, file):
    file.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        ring.all()
    blocked = KeyRing(file.parent / "file" / "keys.json")
    (file.parent / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be"):
        blocked.add("a")


# --- rates and quotas --------------------------------------------------------------------------------------------


def refusal(limiter, key) -> ApiError:
    with pytest.raises(ApiError) as error:
        limiter.acquire(key)
    assert error.value.status == 429
    return error.value


def test_a_rate_is_so_many_a_minute_and_comes_back_bit_by_bit(ring, clock):
    limiter, (key, _), (other, _) = RateLimiter(now=clock), ring.add("a", rate=3), ring.add("b", rate=3)
    for _ in range(3):
        limiter.acquire(key)
    refused = refusal(limiter, key)
    assert (refused.code, refused.headers["Retry-After"]) == ("rate_limit_exceeded", "20")
    limiter.acquire(other)  # nobody pays for another
    clock.passes(seconds=20)
    limiter.acquire(key)
    refusal(limiter, key)
    clock.passes(hours=5)
    for _ in range(3):
        limiter.acquire(key)
    refusal(limiter, key)


def test_waiting_as_long_as_told_is_enough(ring, clock):
    limiter, (key, _) = RateLimiter(now=clock), ring.add("a", rate=7)
    for _ in range(50):
        try:
            limiter.acquire(key)
        except ApiError as refused:
            clock.passes(seconds=int(refused.headers["Retry-After"]))
            limiter.acquire(key)


def test_a_quota_is_so_many_a_day_and_starts_anew_at_midnight(ring, clock):
    limiter, (key, _) = RateLimiter(now=clock), ring.add("a", quota=2)
    limiter.acquire(key)
    limiter.acquire(key)
    refused = refusal(limiter, key)
    assert (refused.code, refused.headers["Retry-After"]) == ("insufficient_quota", str(12 * 3600))
    clock.passes(hours=12)
    limiter.acquire(key)


def test_a_refused_request_costs_no_quota(ring, clock):
    limiter, (key, _) = RateLimiter(now=clock), ring.add("a", rate=1, quota=2)
    limiter.acquire(key)
    for _ in range(5):
        refusal(limiter, key)
    clock.passes(minutes=1)
    limiter.acquire(key)


def test_a_restart_gives_no_second_quota(ring, clock, tmp_path):
    file, (key, _) = tmp_path / "new" / "usage.json", ring.add("a", quota=1)
    first = RateLimiter(file, now=clock)
    first.acquire(key)
    first.save()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    refusal(RateLimiter(file, now=clock), key)
    clock.passes(days=1)
    RateLimiter(file, now=clock).acquire(key)


def test_nothing_is_written_when_nothing_was_used(clock, tmp_path):
    RateLimiter(tmp_path / "usage.json", now=clock).save()
    assert not (tmp_path / "usage.json").exists()


def test_counts_that_cannot_be_written_are_written_later(ring, clock, tmp_path):
    file, (key, _) = tmp_path / "used" / "usage.json", ring.add("a", quota=1)
    file.parent.touch()  # a file is in the way
    limiter = RateLimiter(file, now=clock)
    limiter.acquire(key)
    logged = []
    sink = logger.add(logged.append, format="{message}")
    limiter.save()
    logger.remove(sink)
    assert "cannot be written" in "".join(logged)
    file.parent.unlink()
    limiter.save()
    refusal(RateLimiter(file, now=clock), key)


@pytest.mark.parametrize("damaged", ["{", "[]", json.dumps({"day": "2026-05-01"})])
def test_damaged_counts_do_not_keep_the_server_from_starting(ring, clock, tmp_path, damaged):
    file, (key, _) = tmp_path / "usage.json", ring.add("a", quota=1)
    file.write_text(damaged)
    RateLimiter(file, now=clock).acquire(key)


# --- side by side --------------------------------------------------------------------------------------------------

CHANGING = """
import sys, time
from pathlib import Path
from llm_engineering.serving.api import keys
write_whole = keys.write_whole
def write_slowly(*given, **options):
    time.sleep(0.1)  # between what was read and what is written: time for all the others
    write_whole(*given, **options)
keys.write_whole = write_slowly
ring = keys.KeyRing(Path(sys.argv[1]))
print("there", flush=True)
sys.stdin.readline()
if sys.argv[2] == "add":
    ring.add(sys.argv[3])
else:
    ring.revoke(sys.argv[3])
"""


def change_side_by_side(file: Path, commands: Sequence[tuple[str, str]]) -> None:
    """One process each, which all begin when the last of them is there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGING, str(file), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment,
        )
        for command in commands
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said


@pytest.mark.slow
def test_fifteen_processes_side_by_side_lose_no_revocation_and_no_key(file):
    ring = KeyRing(file)
    ids = [ring.add(f"team {number}")[0].id for number in range(15)]
    change_side_by_side(file, [("revoke", id) for id in ids[:8]] + [("add", f"new {number}") for number in range(7)])
    assert {key.id for key in ring.all() if key.revoked} == set(ids[:8])
    assert {key.team for key in ring.all()} == {f"team {n}" for n in range(15)} | {f"new {n}" for n in range(7)}


def test_a_revoked_key_stays_so_whatever_copy_of_the_keys_is_written_back(ring, file, clock):
    key, secret = ring.add("a")
    running = KeyRing(file, now=clock)
    assert running.find(secret) == key
    before = file.read_bytes()
    ring.revoke(key.id)
    file.write_bytes(before)  # by a backup, or by a program that read it earlier
    for one in (running, ring, KeyRing(file, now=clock)):
        with pytest.raises(ApiError, match="revoked"):
            one.find(secret)
    with pytest.raises(ConfigError, match="no key to revoke"):
        ring.revoke(key.id)


def test_a_torn_line_of_a_revocation_harms_no_other(ring, file):
    first, second = ring.add("a")[0], ring.add("b")[0]
    ring.revoke(first.id)
    revocations = file.with_name("api_keys.revoked.jsonl")
    with revocations.open("ab") as torn:
        torn.write(b'{"id": "')
    ring.revoke(second.id)
    assert [bool(key.revoked) for key in ring.all()] == [True, True]
    assert len(revocations.read_bytes().splitlines()) == 3
    assert stat.S_IMODE(revocations.stat().st_mode) == 0o600


def test_who_waits_for_the_keys_for_long_is_told_which(ring, file, monkeypatch):
    monkeypatch.setattr(keys, "LOCKED_FOR", 0.05)
    ring.add("a")
    with FileLock(file.with_name(".api_keys.json.lock")), pytest.raises(StoreUnavailable, match=r"api_keys\.json"):
        ring.add("b")
    assert [key.team for key in ring.all()] == ["a"]
