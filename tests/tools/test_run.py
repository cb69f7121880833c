import pytest


@pytest.fixture
def one_author(notes, config_file):
    return config_file({"authors": [{"name": "Ann", "links": [{"local_files": str(notes("ann"))}]}]})


def row_of(part: str, output: str) -> list[str]:
    """The cells of the table's row, as text."""
    return next(line.split()[1:] for line in output.splitlines() if line.startswith(f"{part} "))


def test_a_green_run_shows_what_came_in_and_ends_with_0(type_run, one_author, zenml_run):
    result = type_run("digital_data_etl", "--config", one_author)

    assert result.exit_code == 0, result.output
    assert row_of("Ann", result.output)[:5] == ["1", "1", "0", "0", "0"]
    name = result.output.split("green")[1].split()[0]
    assert zenml_run(name).status == "completed"


def test_a_red_run_says_why_on_one_line_and_ends_with_1(type_run, config_file, tmp_path):
    path = config_file({"authors": [{"name": "[red]Bob[/]", "links": [{"local_files": str(tmp_path / "no")}]}]})
    result = type_run("digital_data_etl", "--config", path)

    assert result.exit_code == 1
    assert "[red]Bob[/]: 0 of 1 links were read" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "missing_file" in result.stdout
    assert "Traceback" not in result.output


def test_a_dry_run_says_what_would_happen_and_writes_nothing(type_run, one_author, tmp_path):
    result = type_run("digital_data_etl", "--config", one_author, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "Ann: 1 local_files" in result.output
    assert "will be created" in result.output
    assert not (tmp_path / "twin").exists()


def test_a_dry_run_counts_what_waits_for_the_index(type_run, one_author, config_file, monkeypatch):
    type_run("digital_data_etl", "--config", one_author)
    features = config_file("", "features.yaml")
    before = type_run("feature_engineering", "--config", features, "--dry-run").output
    done = type_run("feature_engineering", "--config", features)
    after = type_run("feature_engineering", "--config", features, "--dry-run").output
    rebuilt = type_run("feature_engineering", "--config", features, "--dry-run", "--rebuild").output
    known = type_run("digital_data_etl", "--config", one_author, "--dry-run", "--retry-failed").output

    assert "3 documents would be indexed from nothing" in before
    assert done.exit_code == 0
    assert row_of("features", done.output)[:4] == ["3", "0", "0", "0"]
    assert "0 changes wait; the index holds 3 passages" in after
    assert "3 documents would be indexed from nothing" in rebuilt
    assert "known links: 1 read" in known


def test_a_rebuild_makes_the_index_again(type_run, one_author, config_file):
    features = config_file("", "features.yaml")
    type_run("digital_data_etl", "--config", one_author)
    type_run("feature_engineering", "--config", features)
    cut = config_file("chunking: {window: 300}\n", "cut.yaml")
    refused = type_run("feature_engineering", "--config", cut)
    rebuilt = type_run("feature_engineering", "--config", cut, "--rebuild")

    assert refused.exit_code == 1
    assert "--rebuild" in refused.stderr
    assert rebuilt.exit_code == 0
    assert row_of("features", rebuilt.output)[5:8] == ["3", "0", "3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["digital_data_etl", "--rebuild"], "No such option '--rebuild'"),
        (["feature_engineering", "--retry-failed"], "No such option '--retry-failed'"),
        (["digital_data_etl", "--quick"], "No such option"),
    ],
)
def test_a_wrong_command_line_ends_with_2(type_run, words, said):
    result = type_run(*words)
    assert result.exit_code == 2
    assert said in result.output


def test_a_password_in_an_address_is_never_shown(type_run, one_author, monkeypatch):
    monkeypatch.setenv("TWIN_WAREHOUSE", "mongodb://ann:secret@127.0.0.1:1/twin?serverSelectionTimeoutMS=50")
    result = type_run("digital_data_etl", "--config", one_author, "--dry-run")

    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
    assert "secret" not in result.output


def test_debug_shows_where_an_error_came_from(type_run, config_file):
    result = type_run("digital_data_etl", "--config", config_file("nonsense: 1\n"), "--debug")
    assert type(result.exception).__name__ == "ConfigError"
