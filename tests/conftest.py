"""What every test may ask for."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ZENML_ANALYTICS_OPT_IN"] = "false"

ROOT = Path(__file__).resolve().parent.parent


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
