"""An author as the subject of personal data, and how to recognise them in what was written down about them."""

import html
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise

from llm_engineering.domain.documents import Author
from llm_engineering.domain.noun import Noun
from llm_engineering.domain.prose import CJK

QUOTED_WORDS = 10  # in a row that two texts share, where one quotes the other

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+]{2,11}:[^\s\"<>]{1,2000}")
_INSIDE = re.compile(r"[\w%-]")  # goes on with the last part of an address
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")


class DataSubject(Noun):
    """The person whose data is looked for: "data subject" in article 4 of the GDPR; article 17 is their right to
    erasure. `links` are their documents' and their lists', as the warehouse and the ledger knew them; `trace_ids` are
    of the answers made from their writing."""

    name: str
    document_ids: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    trace_ids: frozenset[str] = frozenset()

    @property
    def author_id(self) -> str:
        return Author(name=self.name).id

    def knowing(
        self, *, document_ids: Iterable[str] = (), links: Iterable[str] = (), trace_ids: Iterable[str] = ()
    ) -> "DataSubject":
        """The same person, of whom more is known."""
        return DataSubject(
            name=self.name,
            document_ids=self.document_ids.union(document_ids),
            links=self.links.union(links),
            trace_ids=self.trace_ids.union(trace_ids),
        )

    def is_in(self, text: str) -> bool:
        """Whether `text` (prose, a log, HTML or JSON) names the person, their id, a document's id or a link.

        Case and spaces of the name do not matter. A name of one word counts only where it stands for itself, as a
        value of JSON or an attribute, for it may be an ordinary word.
        """
        text = _unescaped(text)
        return bool(
            self._name.search(text)
            or not self._ids.isdisjoint(_UUID.findall(text))
            or any(link in self._links for address in _ADDRESS.findall(text) for link in _beginnings(address))
        )

    @cached_property
    def _name(self) -> re.Pattern[str]:
        words = r"[\W_]+".join(map(re.escape, self.name.split()))
        inside = rf"(?<![^\W_]){words}(?![^\W_])" if len(self.name.split()) > 1 else rf"[\"'>]\s*{words}\s*[\"'<]"
        return re.compile(inside, re.IGNORECASE)

    @cached_property
    def _ids(self) -> frozenset[str]:
        return self.document_ids | {self.author_id}

    @cached_property
    def _links(self) -> frozenset[str]:
        return frozenset(link.rstrip("/") for link in self.links)


def word_runs(text: str) -> Iterator[tuple[str, ...]]:
    """Every `QUOTED_WORDS` words in a row, in lower case: two texts that share one quote each other."""
    words = _WORD.findall(_unescaped(text).casefold())
    return zip(*(words[start:] for start in range(QUOTED_WORDS)), strict=False)


def _unescaped(text: str) -> str:
    """Without the escapes of JSON and HTML, so that a text is the same wherever it was kept."""
    return html.unescape(_ESCAPE.sub(_character, text)) if "\\" in text or "&" in text else text


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return " " if code in "nrt" else code


def _beginnings(address: str) -> Iterator[str]:
    """Of an address in a text every part that may be a whole link: up to each sign that ends a name."""
    for at, (sign, following) in enumerate(pairwise(address), start=1):
        if _INSIDE.match(sign) and not _INSIDE.match(following):
            yield address[:at]
    yield address.rstrip("/")
