"""The same crawl into every kind of store ends with the same documents and the same ledger."""

from fetch_context import fetch_context

from llm_engineering.domain.ledger import Outcome
from llm_engineering.features.config import AuthorConfig
from llm_engineering.features.crawl.run import crawl_author

WORDS = "<article><p>" + "An article has many words, and this one says so again and again. " * 20 + "</p></article>"


def test_a_site_is_followed_in_every_store(open_stores, site, new_fetcher):
    warehouse, ledger = open_stores()
    context = fetch_context(fetch=new_fetcher(per_host=8))

    def crawl(**more):
        author = AuthorConfig(name="Ann", links=[{"web_article": site.url("/sitemap.xml")}])
        return crawl_author(
            author, context=context, warehouse=warehouse, ledger=ledger, concurrency=4, min_success_rate=0.5, **more
        )

    def sitemap(*numbers):
        places = "".join(f"<url><loc>{site.url(f'/posts/{number}')}</loc></url>" for number in numbers)
        xml = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{places}</urlset>'
        site.page("/sitemap.xml", xml, media="application/xml")

    sitemap(*range(30))
    for number in range(30):
        site.page(f"/posts/{number}", WORDS.replace("many", f"{number}"), etag=True)
    seen = []
    stopped = crawl(stop=lambda: len(seen) >= 3, on_progress=seen.append)
    resumed = crawl()
    assert stopped.red
    assert (resumed.resumed, resumed.read) == (stopped.read, 30 - stopped.read)
    assert warehouse.count() == 30
    again = crawl()
    assert (again.unchanged, again.bodies_downloaded) == (30, 1)  # the sitemap
    sitemap(*range(1, 30))
    site.remove("/posts/0")
    site.page("/posts/1", WORDS.replace("many", "new"), etag=True)
    followed = crawl()
    assert (followed.gone, followed.read, followed.unchanged, followed.documents_deleted) == (1, 1, 28, 1)
    assert warehouse.count() == 29
    assert sum(one.outcome is Outcome.GONE for one in ledger.entries()) == 1
