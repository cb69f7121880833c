"""What is passed over in a checkout, without git between: links, pipes and names that no adapter took out before."""

import os

import pytest

from llm_engineering.features.reading.licences import licence_of
from llm_engineering.features.reading.repository_files import repository_files
from llm_engineering.features.source import Skipped


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("x = 1\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.py").write_text("secret")
    return root


def read(root, **more):
    items = list(repository_files(root, **more))
    return [item.path for item in items if not isinstance(item, Skipped)], [i for i in items if isinstance(i, Skipped)]


def test_no_symbolic_link_is_followed(checkout, tmp_path):
    (checkout / "key.py").symlink_to(tmp_path / "secret" / "key.py")
    (checkout / "all").symlink_to(tmp_path / "secret")
    (checkout / "round").symlink_to(checkout)
    (checkout / "LICENSE").symlink_to(tmp_path / "secret" / "key.py")
    (checkout / ".gitattributes").symlink_to(tmp_path / "secret" / "key.py")
    assert read(checkout) == (["src/a.py"], [Skipped("symlink")] * 5)
    assert licence_of(checkout) is None
    assert read(checkout, below="all") == ([], [])
    assert read(checkout, below="../secret") == ([], [])


def test_pipes_and_the_repository_s_own_files_are_left_alone(checkout):
    (checkout / ".git").mkdir()
    (checkout / ".git" / "config.py").write_text("x")
    (checkout / "sub").mkdir()
    (checkout / "sub" / ".git").write_text("gitdir: ../.git/modules/sub")
    os.mkfifo(checkout / "pipe.py")
    paths, skipped = read(checkout)
    assert "src/a.py" in paths
    assert not [path for path in paths if path.startswith(".git/")]
    assert skipped == [Skipped("no regular file")]


def test_one_file_and_one_folder_can_be_asked_for(checkout):
    (checkout / "b.py").write_text("y")
    assert read(checkout, below="b.py")[0] == ["b.py"]
    assert read(checkout, below="src")[0] == ["src/a.py"]
    assert read(checkout, below="nothing") == ([], [])
