"""The same crawl into every kind of store ends with the same documents and the same ledger."""

import pytest
from fetch_context import fetch_context

from llm_engineering.domain.errors import AuthorErased
from llm_engineering.domain.ledger import Outcome
from llm_engineering.domain.personal_data import DataSubject
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


def test_a_crawl_of_an_author_who_is_forgotten_meanwhile_stops_and_stores_nothing_again(open_stores, site, new_fetcher):
    warehouse, ledger = open_stores()
    other_process, its_ledger = open_stores()
    context, ann = fetch_context(fetch=new_fetcher(per_host=8)), DataSubject(name="Ann")
    links = [site.url(f"/{number}") for number in range(30)]
    for number in range(30):
        site.page(f"/{number}", WORDS.replace("many", f"{number}"))

    def crawl(name="Ann", **more):
        author = AuthorConfig.model_validate({"name": name, "links": links})
        return crawl_author(
            author, context=context, warehouse=warehouse, ledger=ledger, concurrency=2, min_success_rate=0.5, **more
        )

    def forget_at_the_fifth(report):
        if report.links == 5:
            its_ledger.erase(ann)
            other_process.erase(ann)

    with pytest.raises(AuthorErased, match="poe forget"):
        crawl(on_progress=forget_at_the_fifth)
    assert (warehouse.count(), list(ledger.entries()), site.hits() < 30) == (0, [], True)
    assert crawl().read == 30  # a run that is begun afterwards is meant
    assert warehouse.count() == 30


def test_another_author_s_crawl_goes_on(open_stores, site, new_fetcher):
    warehouse, ledger = open_stores()
    site.page("/a", WORDS)
    report = crawl_author(
        AuthorConfig.model_validate({"name": "Ann", "links": [site.url("/a")]}),
        context=fetch_context(fetch=new_fetcher()),
        warehouse=warehouse,
        ledger=ledger,
        concurrency=1,
        min_success_rate=0.5,
        on_progress=lambda report: (ledger.erase(DataSubject(name="Bob")), None)[1],
    )
    assert (report.read, warehouse.count(), sum(1 for _ in ledger.entries())) == (1, 1, 1)
