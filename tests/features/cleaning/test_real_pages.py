"""85 real pages: none is taken for a wall, and none is cleaned to nothing."""

import json

from llm_engineering.features.cleaning.clean import clean_body
from llm_engineering.features.reading.parsed_page import ParsedPage
from llm_engineering.features.reading.walls import wall_of


def test_every_real_page_is_accepted_and_cleaned(shared_pages):
    gold = json.loads((shared_pages / "gold.json").read_text(encoding="utf-8"))
    assert len(gold) == 85
    refused, empty = {}, []
    for name, page in gold.items():
        html = (shared_pages / "html" / name).read_text(encoding="utf-8", errors="replace")
        if wall := wall_of(ParsedPage(html), page["url"]):
            refused[name] = wall
        if len(clean_body(html, "text/html").text) < 100:
            empty.append(name)
    assert refused == {}
    assert empty == []
