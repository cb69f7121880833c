"""A law that cannot fail is none: a fault planted in each embedder, model, tracer and source turns its law red."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from contracts import test_embedder_law as embedder_law
from contracts import test_language_model_law as language_model_law
from contracts import test_sources_law as sources_law
from contracts import test_tracer_law as tracer_law
from contracts.test_embedder_law import embedder  # noqa: F401 a fixture
from contracts.test_language_model_law import model, tiny  # noqa: F401 fixtures
from contracts.test_sources_law import scene  # noqa: F401 a fixture
from contracts.test_tracer_law import tracer  # noqa: F401 a fixture
from planted import Planted, turns_red

from llm_engineering.domain.answers import Usage
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.source import Source
from llm_engineering.features.sources import SOURCES

Faults = dict[str, Callable[..., Any]]  # a method's name -> what stands in its place
Law = Callable[[Any], object]  # a law's test, of an adapter

EMBEDDER_FAULTS: dict[str, tuple[Faults, Law]] = {
    "gives longer rows": (
        {"embed": lambda real, texts: 2 * real(texts)},
        embedder_law.test_rows_are_float32_of_the_promised_size_and_unit_length,
    ),
    "gives float64": (
        {"embed": lambda real, texts: real(texts).astype("float64")},
        embedder_law.test_rows_are_float32_of_the_promised_size_and_unit_length,
    ),
    "mixes up the order": (
        {"embed": lambda real, texts: real(texts)[::-1]},
        embedder_law.test_rows_come_in_the_order_given,
    ),
    "counts what it cuts": (
        {"count_tokens": lambda real, texts: [min(n, 256) for n in real(texts)]},
        embedder_law.test_every_text_is_counted_whole_with_its_special_tokens,
    ),
    "counts a batch as one": (
        {"count_tokens": lambda real, texts: [max(real(texts))] * len(texts)},
        embedder_law.test_counting_many_is_counting_each,
    ),
    "gives special tokens vectors": (
        {"embed_tokens": lambda real, texts: [rows[[0, *range(len(rows))]] for rows in real(texts) if len(rows)]},
        embedder_law.test_every_token_has_a_vector_of_unit_length_and_special_ones_have_none,
    ),
    "does not cut": (
        {"embed_tokens": lambda real, texts: [rows.repeat(4, axis=0) for rows in real(texts)]},
        embedder_law.test_tokens_beyond_what_the_encoder_takes_are_left_out,
    ),
}


@pytest.mark.parametrize("fault", EMBEDDER_FAULTS)
def test_an_embedder_that(embedder, fault):  # noqa: F811
    faults, law = EMBEDDER_FAULTS[fault]
    with turns_red():
        law(Planted(embedder, **faults))


_calls = count()
LANGUAGE_MODEL_FAULTS: dict[str, tuple[Faults, Law]] = {
    "gives no usage": (
        {"stream": lambda real, prompt, **how: (piece for piece in real(prompt, **how) if isinstance(piece, str))},
        language_model_law.test_text_comes_in_pieces_and_then_one_usage,
    ),
    "gives empty pieces": (
        {"stream": lambda real, prompt, **how: iter(["", *real(prompt, **how)])},
        language_model_law.test_text_comes_in_pieces_and_then_one_usage,
    ),
    "says something else each time": (
        {"stream": lambda real, prompt, **how: iter([str(next(_calls)), *real(prompt, **how)])},
        language_model_law.test_without_temperature_the_same_prompt_gives_the_same_answer,
    ),
    "does not stop": (
        {"stream": lambda real, prompt, max_tokens, stop: iter([*real(prompt, max_tokens=max_tokens), Usage()])},
        language_model_law.test_it_ends_early_when_told_to_stop,
    ),
    "does not say what it is": (
        {"check": lambda real: "ready"},
        language_model_law.test_it_says_what_it_is,
    ),
}


@pytest.mark.parametrize("fault", LANGUAGE_MODEL_FAULTS)
def test_a_language_model_that(model, fault):  # noqa: F811
    faults, law = LANGUAGE_MODEL_FAULTS[fault]
    with turns_red():
        law(Planted(model, **faults))


def test_a_language_model_that_is_not_ready_after_it_was_closed(model):  # noqa: F811
    streams = count()

    def once(real, prompt, **how) -> Iterator[Any]:
        first = next(streams) == 0
        return (piece for piece in real(prompt, **how) if first)

    with turns_red():
        language_model_law.test_closing_it_half_way_leaves_it_ready_for_the_next_question(Planted(model, stream=once))


# --- tracers ---


class AlwaysNumberOne:
    """A trace whose id is that of every other."""

    id = "1"


def refuses(real, *arguments, **facts):
    """What a tracer may never do: an error of its own, which is no mistake of this test."""
    raise LookupError("it cannot be recorded")


def test_a_tracer_that_gives_one_id_to_all(tracer):  # noqa: F811
    with turns_red():
        tracer_law.test_every_trace_has_an_id_of_its_own(Planted(tracer, start=lambda real, name: AlwaysNumberOne()))


@pytest.mark.parametrize(
    "law", [tracer_law.test_recording_never_raises, tracer_law.test_many_threads_may_trace_at_once]
)
def test_a_tracer_that_raises(tracer, law):  # noqa: F811
    with turns_red():
        law(Planted(tracer, start=refuses))


def test_a_tracer_that_has_no_list(tracer):  # noqa: F811
    with turns_red():
        tracer_law.test_recording_never_raises(Planted(tracer, recent=lambda real, limit: None))


def test_a_tracer_that_closes_only_once(tracer):  # noqa: F811
    closes = count()
    planted = Planted(tracer, close=lambda real: real() if next(closes) == 0 else refuses(real))
    with turns_red():
        tracer_law.test_closing_twice_and_tracing_after_it_harm_nobody(planted)


# --- sources ---


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
class TestASourceThat:
    def test_loses_a_document(self, source: Source, scene, monkeypatch):  # noqa: F811
        losing = Planted(scene.warehouse, put=lambda real, documents: real(list(documents)[1:]))
        monkeypatch.setattr(scene, "warehouse", losing)
        with turns_red():
            sources_law.test_its_saved_page_becomes_its_documents(source, scene)

    def test_cleans_too_much(self, source: Source, scene):  # noqa: F811
        empty = replace(source, clean=lambda body, media_type: Cleaned(""))
        with turns_red():
            sources_law.test_what_its_author_wrote_survives_cleaning_and_nothing_else(empty, scene)

    def test_folds_a_link_without_end(self, source: Source):
        folding = replace(source, canonical=lambda link: f"{link}/x")
        with turns_red():
            sources_law.test_its_canonical_link_is_final(folding, sources_law.LINKS[0])

    def test_reads_something_else_each_time(self, source: Source, scene, monkeypatch):  # noqa: F811
        versions = count()
        changing = Planted(
            scene.warehouse,
            put=lambda real, documents: real(
                [one.model_copy(update={"body": f"{one.body} {next(versions)}"}) for one in documents]
            ),
        )
        monkeypatch.setattr(scene, "warehouse", changing)
        with turns_red():
            sources_law.test_asking_in_full_again_gives_the_same_documents(source, scene)
