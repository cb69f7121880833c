"""Items that were made to stop a reader, among good ones, through the commands that a person types.

No second is asserted here: a command that does not end is killed by the harness and is not green. What they cost is for
`poe bench hostile_items` to say.
"""

import json
from collections import Counter

import pytest

from tools.bench import hostile_items as hostile
from tools.bench.attacks import ITEMS
from tools.bench.attacks.item import Item, head
from tools.bench.hostile_items import outcome_of, tried
from tools.bench.hostile_site import GOOD, serving


def test_they_are_many_and_of_many_kinds():
    kinds = Counter(item.kind for item in ITEMS)
    assert len({item.name for item in ITEMS}) == len(ITEMS) >= 120
    assert set(kinds) == {"file", "page", "feed", "export"}
    assert min(kinds.values()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "page", "feed", "export"])
def test_each_is_a_few_megabytes_and_no_more(kind):
    for item in ITEMS:
        if item.kind == kind and not item.wire:
            assert len(item.make()) < 2_500_000, item.name


@pytest.mark.parametrize("name", ["pdf-encrypted.pdf", "export-bomb.zip", "front-matter-merges.md", "bytes-as-a-page"])
def test_an_item_is_the_same_every_time(name):
    [item] = [item for item in ITEMS if item.name == name]
    assert item.make() == item.make() != b""


@pytest.mark.slow
@pytest.mark.timeout(3 * hostile.LONGEST + 120)
def test_the_good_ones_are_found_and_something_is_said_of_each_hostile_one(tmp_path):
    ended = tried(ITEMS, tmp_path / "zenml")
    assert ended.etl.code == 0, ended.etl.said[-3000:]
    assert ended.features.code == 0, ended.features.said[-3000:]
    assert ended.found == {good.name for good in GOOD}
    assert [item.name for item in ITEMS if not outcome_of(item, ended)] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_does_not_end_is_a_result_and_not_a_hanging_benchmark(tmp_path, monkeypatch):
    """An item that holds the reader's connection for longer than the command may take."""
    monkeypatch.setattr(hostile, "LONGEST", 0.5)
    ended = tried((), tmp_path / "zenml", stored=False)
    assert (ended.etl.code, ended.features.code) == (None, None)
    assert hostile.red(ended) == 2


def test_the_site_says_what_an_item_says():
    import httpx

    odd = Item(name="odd", kind="page", wire=lambda: iter([head(299, ("Content-Length", "2")), b"ok"]))
    with serving((odd,)) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/hostile/odd", trust_env=False)
        assert (answer.status_code, answer.text) == (299, "ok")
        assert httpx.get(f"http://127.0.0.1:{port}/robots.txt", trust_env=False).status_code == 404
        assert GOOD[8].sentence in httpx.get(GOOD[8].url(port), trust_env=False).text


def test_what_came_of_an_item_is_told_by_its_link(tmp_path):
    config = hostile.config_of(ITEMS[:3], 80, tmp_path)
    assert json.dumps(config)
    command = hostile.Command(1.0, 0, "")
    [page] = [item for item in ITEMS if item.name == "divs"]
    [feed] = [item for item in ITEMS if item.name == "feed-deep"]
    [empty] = [item for item in ITEMS if item.name == "zero-bytes.md"]
    link = "http://localhost:1/hostile/divs"
    nothing = hostile.Ended(command, command, frozenset(), frozenset(), {})
    assert outcome_of(page, nothing) == ""
    assert outcome_of(page, nothing._replace(named={link: "too_large: 2 MB"})) == "named"
    assert outcome_of(page, nothing._replace(indexed=frozenset([link]))) == "indexed"
    assert outcome_of(feed, nothing) == "listed"
    assert outcome_of(empty, nothing) == "skipped"
