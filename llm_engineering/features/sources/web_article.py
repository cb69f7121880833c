"""Any other page: the catch-all. Must stay last in SOURCES, because it owns every web link.

The identity of a page is the link it was asked by. What the page itself calls its canonical link is kept in `meta`
only: it may change, and it must never move a document to another identity.
"""

from collections.abc import Iterator

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.reading.feeds import links_at
from llm_engineering.features.reading.pages import read_page
from llm_engineering.features.source import Page, Source, Target


def crawl(target: Target, context: FetchContext) -> Iterator[Page]:
    yield read_page(target, context)


def discover(address: str, context: FetchContext) -> Iterator[str]:
    """The links of a feed, a sitemap, or a page that names its feed or lists articles."""
    yield from links_at(address, context.fetch, context.sandbox)


SOURCE = Source(
    name="web_article",
    kind=Kind.ARTICLE,
    crawl=crawl,
    owns=lambda link: link.startswith(("http://", "https://")),
    discover=discover,
)
