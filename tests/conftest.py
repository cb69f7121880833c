"""What every test may ask for."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ZENML_ANALYTICS_OPT_IN"] = "false"

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # test files are no package: what they share is imported by its own name
pytest_plugins = ("mongo_server", "stores", "zenml_store")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    """A developer's TWIN_* variables and .env never reach a test, and nothing is written into the checkout."""
    for name in [name for name in os.environ if name.startswith("TWIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "twin"))


def shared(name: str) -> Path:
    """Real material beside the checkout; a test that needs it is skipped, with the reason, where it is absent."""
    path = ROOT.parent / "shared" / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}, which is not here")
    return path


@pytest.fixture
def shared_pages() -> Path:
    return shared("pages")


@pytest.fixture
def shared_corpus() -> Path:
    return shared("corpus/articles.json")


# --- a web site on loopback (tests/loopback.py) --------------------------------------------------------------


@pytest.fixture
def new_site():
    """Makes loopback sites; they are closed after the test."""
    from loopback import Site

    sites = []

    def make(**options):
        sites.append(Site(**options))
        return sites[-1]

    yield make
    for one in sites:
        one.close()


@pytest.fixture
def site(new_site):
    return new_site()


@pytest.fixture
def new_fetcher(site):
    """Makes fetchers that reach the loopback site under any name, and wait little; closed after the test."""
    from llm_engineering.features.config import FetchConfig
    from llm_engineering.infrastructure.fetchers.http import HttpFetcher

    fetchers = []

    def make(*, resolve=site.resolve, first_backoff=0.01, **options):
        quick = {"allow_hosts": ("127.0.0.1", "localhost", "one.example", "two.example"), "read_timeout": 5.0}
        config = FetchConfig.model_validate({**quick, **options}).model_dump(exclude={"concurrency"})
        fetchers.append(HttpFetcher(**config, resolve=resolve, first_backoff=first_backoff))
        return fetchers[-1]

    yield make
    for one in fetchers:
        one.close()
