"""docs/security.md names code and tests that are there."""

import re

from conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.findall(
    r"`((?:llm_engineering|tests|tools|requirements)/[\w./-]*|Dockerfile|Makefile|[\w.-]+\.yml)(?:::(\w+))?`", PAGE
)


def test_every_file_and_every_test_is_there():
    assert len(NAMED) > 90
    assert [path for path, _ in NAMED if not (ROOT / path).exists()] == []
    tests = [(path, name) for path, name in NAMED if name]
    assert [name for path, name in tests if f"def {name}(" not in (ROOT / path).read_text()] == []


def test_each_part_says_what_is_not_defended():
    parts = PAGE.split("\n## ")[1:]
    assert len(parts) == 6
    assert [part.splitlines()[0] for part in parts if "**Not defended.**" not in part] == []
    assert [part.splitlines()[0] for part in parts if "| where | shown by |" not in part] == []
