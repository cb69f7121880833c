"""docs/change-it.md is true to the tree."""

import re

from conftest import ROOT

PAGE = (ROOT / "docs" / "change-it.md").read_text()
PATHS = re.findall(r"`((?:llm_engineering|tests|tools|steps|pipelines|configs)/[\w./-]*)`( \(new\))?", PAGE)


def test_every_path_is_there_and_a_new_one_is_not():
    assert len(PATHS) >= 15
    assert [path for path, new in PATHS if not new and not (ROOT / path).exists()] == []
    assert [path for path, new in PATHS if new and ((ROOT / path).exists() or not (ROOT / path).parent.exists())] == []


def test_there_are_ten_changes_of_at_most_three_files_each():
    changes = PAGE.split("\n## ")[1:]
    assert len(changes) == 10
    for change in changes:
        files = change.split("\n\n")[1]
        assert 1 <= len(re.findall(r"`llm_engineering/|`tests/|No file", files)) <= 3, change.splitlines()[0]


def test_what_a_change_takes_away_is_in_the_code():
    """A line of a diff that begins with `-`, as far as it is written out, stands in one of the files named above it."""
    for change in PAGE.split("\n## ")[1:]:
        named = [ROOT / path for path in re.findall(r"`(llm_engineering/[\w./]+\.py)`", change)]
        code = "".join(path.read_text() for path in named if path.exists())
        for line in re.findall(r"^- +(.*?)(?: ….*)?$", change, re.MULTILINE):
            assert line in code, line
