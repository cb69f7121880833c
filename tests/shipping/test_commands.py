"""Every command that a message or a page names exists, with the options it names."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from conftest import ROOT

from tools.tasks import tasks

TASKS: dict[str, dict[str, object]] = (
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"] | tasks()["tasks"]
)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) | TASKS.keys()
EXAMPLES = {"run-count-words"}  # docs/add-a-pipeline.md has the reader make it

POE = re.compile(r"\bpoe ([a-z][\w-]*)((?:[ ][^\s`;,()|#<]+)*)")
# in a sentence, `make` is mostly a verb: a target ends it, or stands before a sign or a variable
MAKE = re.compile(r"\bmake ([a-z][\w-]*)(?=$|[`<;,).:]|\s+[A-Z]+=|\s\s)(.*)", re.MULTILINE)
MAKE_IN_CODE = re.compile(r"(?:^|&& )make ([a-z][\w-]*)(.*)", re.MULTILINE)
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)


class Mention(NamedTuple):
    place: str
    program: str
    task: str
    words: str  # what follows it


def mentions(place: str, text: str, *, code: bool) -> Iterator[Mention]:
    """`code`: the text is one, not a sentence with one in it."""
    for program, pattern in (("poe", POE), ("make", MAKE_IN_CODE if code else MAKE)):
        for found in pattern.finditer(text):
            yield Mention(place, program, found[1], found[2])


def in_code(place: str, text: str) -> Iterator[Mention]:
    for found in CODE.finditer(text):
        yield from mentions(place, found[1] or found[2], code=True)


def in_module(path: Path) -> Iterator[Mention]:
    """In what it may say; in a docstring only what is marked as code."""
    tree, place = ast.parse(path.read_text()), str(path.relative_to(ROOT))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in docstrings:
                yield from in_code(place, node.value)
            else:
                yield from mentions(place, node.value, code=False)


def all_mentions() -> Iterator[Mention]:
    for package in ("llm_engineering", "steps", "pipelines", "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield from in_module(path)
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))):
        yield from in_code(str(path.relative_to(ROOT)), path.read_text())
    for name in (".env.example", "Dockerfile", "docker-compose.yml", ".github/workflows/ci.yaml", ".ci/run"):
        yield from mentions(name, (ROOT / name).read_text(), code=False)


def command(task: str) -> tuple[click.Command, list[str]] | None:
    """The click command behind a task, and the words it is started with; None when it is another program."""
    started = re.fullmatch(r"python -m (tools\.[\w.]+) ?(.*)", str(TASKS[task].get("cmd", "")))
    if started is None:
        return None
    module = import_module(started[1])
    if module.__spec__ and module.__spec__.submodule_search_locations:
        module = import_module(f"{started[1]}.__main__")
    last = re.search(r'if __name__ == "__main__":\n    (\w+)\(\)', Path(str(module.__file__)).read_text())
    return (getattr(module, last[1]), started[2].split()) if last else None


def missing(mention: Mention) -> str | None:
    """What of it does not exist."""
    if mention.task not in EXAMPLES.union(TASKS if mention.program == "poe" else TARGETS):
        return f"{mention.place}: {mention.program} {mention.task}"
    found = command(mention.task) if mention.task in TASKS else None
    if found is None:
        return None
    here, begun = found
    words = [*begun, *re.findall(r"[\w-]+", mention.words)]
    while isinstance(here, click.Group) and words and words[0] in here.commands:
        here = here.commands[words.pop(0)]
    options = {"--help"}.union(*(parameter.opts + parameter.secondary_opts for parameter in here.params))
    unknown = [word for word in words if word.startswith("--") and word not in options]
    return f"{mention.place}: {mention.program} {mention.task} {' '.join(unknown)}" if unknown else None


def test_every_command_that_is_named_exists():
    named = list(all_mentions())
    assert len(named) > 150
    assert [text for text in map(missing, named) if text] == []


@pytest.mark.parametrize(
    "text",
    [
        "see `poe no-such-task`",
        "poe run-features --rebuilt",
        "poe serve-keys add TEAM --expire 3d",
        "the group is missing: make install",
        "make setup-all PYTHON=python3.12",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(text):
    assert [found for found in map(missing, mentions("here", text, code=False)) if found]


def test_a_sentence_is_no_command():
    assert not list(mentions("here", "remove it and make new keys, which make sense here", code=False))
