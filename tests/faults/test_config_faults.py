"""A config that is wrong stops the run before anything starts, and says file, line, key and what would be right."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

GOOD = """\
authors:
  - name: Ann
    links:
      - https://ann.example/one
"""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (GOOD + "min_sucess_rate: 0.9\n", ["line 5", "min_sucess_rate: no such key", "did you mean min_success_rate?"]),
        (GOOD + "fetch:\n  concurency: 3\n", ["line 6", "fetch.concurency", "did you mean concurrency?"]),
        (GOOD + "fetch:\n  banana: 3\n", ["fetch.banana", "known: ", "user_agent", "max_bytes"]),
        (GOOD + "fetch:\n  concurrency: many\n", ["line 6", "fetch.concurrency", "valid integer", "not 'many'"]),
        (GOOD + "min_success_rate: 50\n", ["line 5", "min_success_rate", "less than or equal to 1", "not 50"]),
        (GOOD + "browser: maybe\n", ["line 5", "browser", "boolean"]),
        (GOOD + "authors: []\n", ["line 5", "'authors' stands on line 1 already"]),
        ("authors: []\n", ["line 1", "authors", "give at least one"]),
        ("", ["authors", "is missing"]),
        ("# nothing but a comment\n", ["authors", "is missing"]),
        ("- a\n- b\n", ["key: value", "not list"]),
        ("authors:\n  - name: Ann\n   links: []\n", ["line 3", "not valid YAML"]),
        ("authors: [\n", ["not valid YAML"]),
        ("authors:\n  - name: Ann\n", ["line 2", "authors[0].links", "is missing"]),
        (
            "authors:\n  - {name: '', links: [https://a.example]}\n",
            ["line 2", "authors[0].name", "at least 1 character"],
        ),
        ("authors:\n  - {name: Ann, links: [https://a.example], age: 3}\n", ["authors[0].age", "no such key"]),
        (GOOD.replace("- https", "- substak: https"), ["Ann", "no source is called substak", "web_article"]),
        (GOOD.replace("- https", "- local_file: https"), ["did you mean local_files?"]),
        (GOOD.replace("- https", "- a: https://x.example\n        b: https"), ["line 4", "one source per line"]),
        (GOOD.replace("- https://ann.example/one", "- 17"), ["line 4", "authors[0].links[0]"]),
        (GOOD + GOOD.removeprefix("authors:\n"), ["listed twice: ann"]),
        (GOOD + "authors_: 1\n" + "fetch: {delay: -1}\n", ["authors_", "fetch.delay"]),
        ("a: !!python/object/apply:os.system ['true']\n", ["not valid YAML"]),
        ("a: \x07\n", ["not valid YAML"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(type_run, config_file, wrong, said):
    path = config_file(wrong)
    result = type_run("digital_data_etl", "--config", path)

    assert result.exit_code == 2, result.output
    assert str(path) in result.output
    for words in said:
        assert words in result.output


@pytest.mark.parametrize("second", ["https://ann.example/one", "http://www.ann.example:80/one/?utm_source=x#top"])
def test_one_link_under_two_authors_names_both(type_run, config_file, second):
    path = config_file(GOOD + f"  - name: Bob\n    links:\n      - {second}\n")
    result = type_run("digital_data_etl", "--config", path)

    assert result.exit_code == 2
    assert second in result.output
    assert "Ann and Bob" in result.output


def test_one_link_twice_under_one_author_is_fine(type_run, config_file):
    path = config_file(GOOD + "      - https://ann.example/one?utm_source=x\n")
    assert type_run("digital_data_etl", "--config", path, "--dry-run").exit_code == 0


def test_a_missing_file_says_where_it_looked_and_what_is_there(type_run, config_file, tmp_path):
    config_file(GOOD, "mine.yaml")
    result = type_run("digital_data_etl", "--config", tmp_path / "mein.yaml")

    assert result.exit_code == 2
    assert str(tmp_path / "mein.yaml") in result.output
    assert "mine.yaml" in result.output


def test_a_folder_or_a_binary_file_is_no_config(type_run, tmp_path):
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    for path, said in ((tmp_path, "cannot be read"), (tmp_path / "picture.yaml", "not UTF-8")):
        result = type_run("digital_data_etl", "--config", path)
        assert result.exit_code == 2
        assert said in result.output


def test_the_part_of_an_end_to_end_config_is_named(type_run, config_file):
    indented = "".join(f"  {line}\n" for line in GOOD.splitlines())
    wrong = config_file("etl:\n" + indented + "features:\n  chunking:\n    maxtokens: 3\n")
    result = type_run("end_to_end_data", "--config", wrong)

    assert result.exit_code == 2
    assert "features.chunking.maxtokens" in result.output
    assert "did you mean max_tokens?" in result.output


def test_a_wrong_config_costs_no_start_of_zenml(config_file):
    """Typed as a person types it, to see that nothing heavy is imported first."""
    path = config_file(GOOD + "banana: 1\n")
    code = (
        "import sys\n"
        "from tools.run import run\n"
        f"try: run(['digital_data_etl', '--config', {str(path)!r}])\n"
        "finally: print('zenml' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)

    assert done.returncode == 2
    assert done.stdout.strip() == "False False"
    assert "banana: no such key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_stops_the_run_before_it_starts(type_run, config_file, monkeypatch, tmp_path):
    monkeypatch.setenv("TWIN_EMBEDER", "hashing:64")
    result = type_run("digital_data_etl", "--config", config_file(GOOD))

    assert result.exit_code == 2
    assert "TWIN_EMBEDER" in result.output
    assert "did you mean TWIN_EMBEDDER?" in result.output
    assert not (tmp_path / "twin").exists()


def test_a_wrong_store_address_stops_the_run_before_it_starts(type_run, config_file, monkeypatch):
    monkeypatch.setenv("TWIN_WAREHOUSE", "postgres://somewhere")
    result = type_run("digital_data_etl", "--config", config_file(GOOD))

    assert result.exit_code == 2, result.output
    assert "TWIN_WAREHOUSE has the scheme postgres" in result.output
