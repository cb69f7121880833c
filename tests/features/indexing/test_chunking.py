from datetime import UTC, datetime

import pytest
from feature_build import document

from llm_engineering.domain.chunks import Chunk, ChunkingSpec
from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import ConfigError
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.indexing.chunking import chunks_of_all, cut, token_limit
from llm_engineering.infrastructure.embedders import HashingEmbedder

EMBEDDER = HashingEmbedder(32)
BODY = "".join(f"# Part {i}\n\n{f'Sentence {i} says something. ' * 12}\n\n" for i in range(6))


def chunks_of(document: Document, cleaned: Cleaned | None = None) -> list[Chunk]:
    whole = [(document, cut(cleaned or Cleaned(document.body), 64))]
    return chunks_of_all(whole, max_tokens=64, window_size=600, count_tokens=EMBEDDER.count_tokens)[0]


def test_every_character_is_in_some_chunk_and_offsets_are_kept():
    chunks = chunks_of(document(body=BODY))
    assert "".join(chunk.text for chunk in chunks) == BODY
    assert all(BODY[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(chunk.tokens <= 64 for chunk in chunks)


def test_a_chunk_carries_its_headings_and_a_wider_window():
    chunks = chunks_of(document(body=BODY))
    assert chunks[0].headings == ("Part 0",)
    assert chunks[-1].headings == ("Part 5",)
    assert all(chunk.text.strip() in chunk.window for chunk in chunks)
    assert all(len(chunk.window) > len(chunk.text) for chunk in chunks)


def test_code_has_no_headings():
    assert chunks_of(document(body=BODY), Cleaned("# a comment\nx = 1\n", "code"))[0].headings == ()


def test_an_edit_elsewhere_keeps_the_ids():
    before = {chunk.id for chunk in chunks_of(document(body=BODY))}
    after = {chunk.id for chunk in chunks_of(document(body="# New first part\n\nWith some words.\n\n" + BODY))}
    assert len(before - after) <= 1


def test_equal_passages_of_one_document_have_their_own_ids():
    chunks = chunks_of(document(body="# Same\n\n" + "The same words again. " * 9 + "\n\n"), Cleaned(BODY[:300] * 5))
    assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_the_same_passage_of_another_document_has_another_id():
    one, other = (chunks_of(document(str(i), BODY)) for i in range(2))
    assert not {chunk.id for chunk in one} & {chunk.id for chunk in other}


def test_what_the_document_says_goes_before_what_its_body_says():
    stated, found = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    cleaned = Cleaned("words", title="from the body", published_at=found)
    [bare] = chunks_of(document(body=BODY), cleaned)
    [given] = chunks_of(document(title="given", published_at=stated), cleaned)
    assert (bare.title, bare.published_at) == ("from the body", found)
    assert (given.title, given.published_at) == ("given", stated)


def test_what_no_store_keeps_is_replaced_one_for_one():
    chunks = chunks_of(document(title="a\0b"), Cleaned("half \ud83d pair and \0 nul"))
    assert chunks[0].text == "half \ufffd pair and \ufffd nul"
    assert chunks[0].title == "a\ufffdb"


def test_white_space_alone_makes_no_chunk():
    assert chunks_of(document(body=BODY), Cleaned(" \n\t ")) == []


def test_the_limit_is_what_the_embedder_takes_or_less():
    assert token_limit(ChunkingSpec(), EMBEDDER) == 256
    assert token_limit(ChunkingSpec(max_tokens=100), EMBEDDER) == 100
    for wrong in (257, 3, -1):
        with pytest.raises(ConfigError, match=r"max_tokens is .*hashing takes 16 to 256"):
            token_limit(ChunkingSpec(max_tokens=wrong), EMBEDDER)


def test_what_holds_no_letter_and_no_digit_is_no_passage():
    words = "Brackets follow, and they say nothing to anybody.\n\n"
    chunks = chunks_of(document(body=words + "[({<_>})]\n" * 5_000 + "\n# 終わり\n\nEnd 1.\n"))
    assert len(chunks) < 5
    assert chunks[0].text.startswith("Brackets follow")
    assert chunks[-1].text.endswith("End 1.\n")
    assert chunks_of(document(body="[]\n" * 5_000)) == []
