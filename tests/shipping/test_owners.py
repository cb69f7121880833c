"""Every file has an owner, as GitHub reads CODEOWNERS."""

import re
import subprocess

from conftest import ROOT

RULES = [line.split() for line in (ROOT / "CODEOWNERS").read_text().splitlines() if line and not line.startswith("#")]


def owner(path: str) -> str | None:
    """Of the last rule that matches."""
    return next((team for pattern, team in reversed(RULES) if matches(pattern, path)), None)


def matches(pattern: str, path: str) -> bool:
    """`/folder/` is all of it, `/folder/*` only its files, `/file` that file; other patterns are not used here."""
    assert pattern.startswith("/"), pattern
    expression = re.escape(pattern.strip("/")).replace(r"\*", "[^/]*")
    return re.fullmatch(expression + ("/.*" if pattern.endswith("/") else ""), path) is not None


def test_no_tracked_file_is_unowned():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [path for path in tracked.splitlines() if owner(path) is None] == []


def test_every_rule_is_about_something_that_is_there():
    places = [pattern.removesuffix("*").strip("/") for pattern, _ in RULES]
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_the_last_rule_wins_and_what_no_rule_names_is_unowned():
    assert owner("steps/digital_data_etl.py") == "@llm-twin/features"
    assert owner("steps/report.py") == "@llm-twin/platform"
    assert owner("a-new-room/module.py") is None
