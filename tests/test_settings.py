import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT

from llm_engineering.bootstrap import build_fetcher, build_vector_store, build_warehouse, local_path
from llm_engineering.domain.errors import ConfigError
from llm_engineering.features.config import FetchConfig
from llm_engineering.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWIN_HOME", raising=False)


def test_a_bare_machine_needs_no_setting():
    settings = load_settings()
    assert settings.warehouse_url == "sqlite:///.twin/warehouse.db"
    assert settings.vectors_url == "edge:///.twin/vectors"


def test_the_environment_wins_over_the_env_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("TWIN_HOME=from-file\nTWIN_EMBEDDER=hashing:64\nSOME_OTHER_TOOL=1\n")
    monkeypatch.setenv("TWIN_HOME", "from-environment")
    settings = load_settings()
    assert (str(settings.home), settings.embedder) == ("from-environment", "hashing:64")


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_misspelt_setting_is_named_with_the_right_one(where, tmp_path, monkeypatch):
    if where == "file":
        (tmp_path / ".env").write_text("TWIN_WAREHUOSE=sqlite:///x.db\n")
    else:
        monkeypatch.setenv("TWIN_WAREHUOSE", "sqlite:///x.db")
    with pytest.raises(ConfigError, match="TWIN_WAREHUOSE is no setting; did you mean TWIN_WAREHOUSE"):
        load_settings()


def test_a_wrong_value_is_named_and_not_repeated(monkeypatch):
    monkeypatch.setenv("TWIN_EMBEDDER_PRECISION", "my-secret")
    with pytest.raises(ConfigError, match="TWIN_EMBEDDER_PRECISION") as error:
        load_settings()
    assert "my-secret" not in str(error.value)


def test_keys_are_never_shown(monkeypatch):
    monkeypatch.setenv("TWIN_QDRANT_API_KEY", "my-secret")
    assert "my-secret" not in repr(load_settings())


def test_paths_are_written_as_in_sqlalchemy():
    assert str(local_path("TWIN_WAREHOUSE", "sqlite:///twin/w.db")) == "twin/w.db"
    assert str(local_path("TWIN_WAREHOUSE", "sqlite:////srv/w.db")) == "/srv/w.db"
    with pytest.raises(ConfigError, match="three slashes"):
        local_path("TWIN_WAREHOUSE", "sqlite://w.db")


def test_an_unknown_scheme_says_which_are_known():
    with pytest.raises(ConfigError, match="postgres: use sqlite:///PATH or mongodb://") as error:
        build_warehouse("postgres://ann:my-secret@x")
    assert "my-secret" not in str(error.value)
    with pytest.raises(ConfigError, match="edge:///FOLDER or http"):
        build_vector_store(Settings(vectors="ftp://x"))


def test_one_host_is_asked_as_politely_by_all_authors_together_as_by_one(site):
    site.latency = 0.05
    site.page("/a")
    config = FetchConfig(per_host=1, allow_hosts=("127.0.0.1",))
    fetchers = [build_fetcher(config) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda fetcher: fetcher.get(site.url("/a")), fetchers))
    for fetcher in fetchers:
        fetcher.close()
    assert len(fetched) == 4
    assert site.busiest == 1


@pytest.mark.parametrize("variable", ["TWIN_OPENAI_API_KEY", "TWIN_QDRANT_API_KEY", "TWIN_OPIK_API_KEY"])
@pytest.mark.parametrize("key", ["sk-first\nsk-second", "gehe\u00efm-key", "two keys"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, variable, key):
    monkeypatch.setenv(variable, key)
    with pytest.raises(ConfigError, match=rf"{variable}: .*was it copied whole") as told:
        load_settings()
    assert not any(part in str(told.value) for part in key.split())


def test_space_around_a_key_is_not_part_of_it(monkeypatch):
    monkeypatch.setenv("TWIN_OPENAI_API_KEY", " sk-abc\n")
    key = load_settings().openai_api_key
    assert key is not None
    assert key.get_secret_value() == "sk-abc"


def defaults() -> dict[str, str]:
    """TWIN_NAME -> its default as a person writes it; "" where there is none, or one that other settings decide."""
    fields = Settings.model_fields.items()
    return {f"TWIN_{name.upper()}": "" if field.default is None else str(field.default) for name, field in fields}


def test_the_env_example_has_every_setting_with_its_default():
    written = dict(re.findall(r"^# (TWIN_\w+)=(\S*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    derived = {"TWIN_WAREHOUSE": Settings().warehouse_url, "TWIN_VECTORS": Settings().vectors_url}
    assert written == defaults() | derived


def test_docs_settings_has_every_setting_with_its_default():
    rows = re.findall(r"^\| `(TWIN_\w+)` \| (.*?) \| ", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    in_words = re.compile(r"[^`]+")  # as "none", where the default is no value
    assert {name: "" if in_words.fullmatch(default) else default.strip("`") for name, default in rows} == defaults()
