"""Any loader of langchain_community.document_loaders, named in the config, as a source.

- langchain_loader: {address: TextLoader, arguments: {file_path: notes.txt}}
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import JsonValue

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.source import Page, Source, Target

MODULE = "langchain_community.document_loaders"
_PACKAGE = re.compile(r"pip install (?:-U |--upgrade |-q )*[`'\"]?([A-Za-z0-9._\[\]-]+)|No module named '([^']+)'")


def link_of(address: str, options: Mapping[str, JsonValue]) -> str:
    """The loader and a digest of its arguments, in whatever order they stand: the same line is the same link."""
    name = address.removeprefix(f"{MODULE}.")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
        raise SourceError(address, Reason.LOADER, f"name a class of {MODULE}", retry=False)
    return f"langchain:{name}#{content_hash(repr(list(_by_key(dict(options)).items())))[:12]}"


def _by_key(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {key: _by_key(value) if isinstance(value, dict) else value for key, value in sorted(options.items())}


def crawl(target: Target, context: FetchContext) -> Iterator[Page]:
    loader = _loader(target)
    numbers: dict[str, int] = {}
    for document in _documents(target, loader):
        yield _page(target, document.page_content, dict(document.metadata), numbers)


def _loader(target: Target):
    from langchain_community import document_loaders

    name = target.link.removeprefix("langchain:").partition("#")[0]
    if name not in document_loaders.__all__:
        near = get_close_matches(name, document_loaders.__all__, n=3)
        detail = f"{MODULE} has no {name}" + (f"; did you mean {', '.join(near)}?" if near else "")
        raise SourceError(target.link, Reason.LOADER, detail, retry=False)
    arguments = target.options.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise SourceError(target.link, Reason.LOADER, "arguments is a mapping of names to values", retry=False)
    try:
        return getattr(document_loaders, name)(**arguments)
    except Exception as error:  # a missing package, a wrong argument, a file that is not there
        raise _loader_error(target, error) from error


def _documents(target: Target, loader):
    """Whatever somebody else's loader raises is a failure of this link."""
    try:
        documents = iter(loader.lazy_load())
        while (document := next(documents, None)) is not None:
            yield document
    except Exception as error:
        raise _loader_error(target, error) from error


def _loader_error(target: Target, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    words = " ".join(str(error).split())[:200]
    if isinstance(error, ImportError):
        found = _PACKAGE.search(words)
        package = (found[1] or found[2].partition(".")[0]) if found else ""
        detail = f"install the package this loader needs: {package}" if package else words
        return SourceError(target.link, Reason.LOADER, detail, retry=False)
    retry = isinstance(error, ConnectionError | TimeoutError)
    return SourceError(target.link, Reason.LOADER, f"{type(error).__name__}: {words}", retry=retry)


def _page(target: Target, text: str, metadata: dict, numbers: dict[str, int]) -> Page:
    """The first document of a place has the place's link; the next ones (pages of a PDF, rows) are numbered."""
    place = link_of_source(metadata.get("source"))
    number = numbers[place] = numbers.get(place, -1) + 1
    link = place if place and not number else f"{target.link}/{content_hash(place, str(number))[:16]}"
    return Page(
        link=link,
        url=str(metadata["source"]).strip() if place.startswith("http") else place or target.link,
        title=str(metadata.get("title") or ""),
        body=text,
        media_type="text/plain",
        meta={str(key): value if isinstance(value, int | None) else str(value) for key, value in metadata.items()},
    )


def link_of_source(source: object) -> str:
    """A canonical link for what loaders call the source: an address or a path; "" for anything else."""
    if not isinstance(source, str | Path) or not str(source).strip():
        return ""
    text = str(source).strip()
    if "://" not in text:
        return canonical_link(Path(text).expanduser().absolute().as_uri()) if Path(text).exists() else ""
    try:
        return canonical_link(text)
    except SourceError:
        return ""


SOURCE = Source(
    name="langchain_loader",
    kind=Kind.ARTICLE,
    crawl=crawl,
    owns=lambda link: link.startswith("langchain:"),
    link_of=link_of,
    options=("arguments",),
    complete=True,
)
