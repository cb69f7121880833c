"""Any loader of langchain_community, by its name. Real loaders, real files."""

from importlib.util import find_spec

import pytest
from fetch_context import NOTHING

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.features.sources import Target
from llm_engineering.features.sources.langchain_loader import SOURCE, link_of, link_of_source


def read(name, **arguments):
    options = {"arguments": arguments}
    return list(SOURCE.crawl(Target(link_of(name, options), name, options=options), NOTHING))


def failed(name, **arguments):
    with pytest.raises(SourceError) as caught:
        read(name, **arguments)
    assert caught.value.reason == Reason.LOADER
    return caught.value


@pytest.mark.parametrize("name", ["TextLoader", "langchain_community.document_loaders.TextLoader"])
def test_a_document_has_the_link_of_its_file(tmp_path, name):
    path = tmp_path / "a b.txt"
    path.write_text("it's here")
    [page] = read(name, file_path=str(path))
    assert page.body == "it's here"
    assert page.link == page.url == canonical_link(path.as_uri())
    assert page.meta == {"source": str(path)}


def test_documents_of_one_file_have_stable_links_of_their_own(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("name,age\nAnn,41\nBob,42\nCy,43\n")
    first, second = read("CSVLoader", file_path=str(path)), read("CSVLoader", file_path=str(path))
    assert [page.link for page in first] == [page.link for page in second]
    assert len({page.link for page in first}) == 3
    assert first[1].link.startswith("langchain:CSVLoader#")
    assert first[2].meta["row"] == 2
    assert all(canonical_link(page.link) == page.link for page in first)


def test_the_same_line_is_the_same_link_and_other_arguments_another():
    line = link_of("TextLoader", {"limit": 3, "arguments": {"a": 1, "b": {"c": 2, "d": 3}}})
    assert line == link_of("TextLoader", {"arguments": {"b": {"d": 3, "c": 2}, "a": 1}, "limit": 3})
    assert link_of("TextLoader", {"arguments": {"a": 1}}) == "langchain:TextLoader#b75de331ab6b"
    assert link_of("TextLoader", {"arguments": {"a": 1}}) != link_of("TextLoader", {"arguments": {"a": 2}})
    assert link_of("langchain_community.document_loaders.TextLoader", {}) == link_of("TextLoader", {})


def test_an_unknown_loader_is_told_what_it_may_mean():
    error = failed("TextLaoder")
    assert "did you mean" in error.detail
    assert "TextLoader" in error.detail
    assert not error.retry
    assert "did you mean" not in failed("Qqqqqqqqqqqq").detail


@pytest.mark.parametrize("name", ["os.system", "../x", "", "TextLoader; import os"])
def test_nothing_but_a_loader_can_be_named(name):
    with pytest.raises(SourceError) as caught:
        read(name)
    assert caught.value.reason == Reason.LOADER


def test_a_missing_package_is_named(tmp_path):
    """A loader whose package is really not installed here."""
    pytest.importorskip("langchain_community")
    if find_spec("docx2txt"):
        pytest.skip("docx2txt is installed")
    (tmp_path / "a.docx").write_bytes(b"x")
    error = failed("Docx2txtLoader", file_path=str(tmp_path / "a.docx"))
    assert "docx2txt" in error.detail
    assert "install" in error.detail
    assert not error.retry


def test_what_a_loader_raises_is_a_failure_of_this_link(tmp_path):
    assert "RuntimeError" in failed("TextLoader", file_path=str(tmp_path / "nowhere.txt")).detail
    assert "TypeError" in failed("TextLoader", wrong=1).detail
    with pytest.raises(SourceError, match="arguments is a mapping"):
        list(SOURCE.crawl(Target("langchain:TextLoader#1", "TextLoader", options={"arguments": [1]}), NOTHING))


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("http://www.example.com/a#b", "https://example.com/a"),
        ("https://user:secret@example.com/", ""),
        ("the third shelf", ""),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_only_an_address_or_a_file_is_a_place(source, place):
    assert link_of_source(source) == place
