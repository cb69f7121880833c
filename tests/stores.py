"""Every warehouse and ledger, one after the other, for the tests that hold for all of them."""

from datetime import UTC, datetime

import pytest

from llm_engineering.domain.documents import Author, Document, Kind
from llm_engineering.domain.ledger import LedgerEntry, Outcome


def a_document(name: str = "a", body: str = "text", *, author: str = "Ann", **more: object) -> Document:
    link = f"https://example.com/{name}"
    fields = {"link": link, "url": link, "crawled_from": link, "source": "web_article", "kind": Kind.ARTICLE}
    return Document.model_validate({**fields, "author": Author(name=author), "body": body, **more})


def an_entry(name: str = "a", outcome: Outcome = Outcome.READ, *, author: str = "Ann", **more: object) -> LedgerEntry:
    link, moment = f"https://example.com/{name}", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    fields = {"link": link, "url": link, "author_id": Author(name=author).id, "author_name": author, "source": "x"}
    times = {"first_seen": moment, "last_attempt": moment}
    return LedgerEntry.model_validate({**fields, **times, "outcome": outcome, **more})


@pytest.fixture(params=["sqlite", "mongo"])
def store_url(request, tmp_path) -> str:
    """The address of an empty store of each kind."""
    return f"sqlite:///{tmp_path}/warehouse.db" if request.param == "sqlite" else request.getfixturevalue("mongo_url")


@pytest.fixture
def open_stores(store_url):
    """Opens the same store as often as it is called: (warehouse, ledger). Closed after the test."""
    from llm_engineering.bootstrap import build_warehouse

    opened = []

    def opens():
        opened.append(build_warehouse(store_url))
        return opened[-1]

    yield opens
    for warehouse, _ in opened:
        warehouse.close()


@pytest.fixture
def warehouse(open_stores):
    return open_stores()[0]


@pytest.fixture
def ledger(open_stores):
    return open_stores()[1]
