"""The golden set: what is asked, what answers it, and what is taken out of what is searched."""

from collections.abc import Callable, Generator, Sequence

from passages import passage

from llm_engineering.domain.answers import Usage
from llm_engineering.domain.chunks import Chunk
from llm_engineering.domain.prompts import Prompt
from llm_engineering.inference.evaluation.golden import GoldenQuery, GoldenSet, golden_set, half_of, normalised
from llm_engineering.inference.evaluation.questions import generate_questions

FILLER = "This paragraph goes on for a while so that there is something left to find, whatever is taken out of it."


def essay(number: int, *sections: tuple[str, str], title: str) -> list:
    """One chunk per section: its heading line and its text."""
    return [
        passage(
            10 * number + i,
            document=number,
            text=f"## {heading}\n\n{text}\n",
            title=title,
            headings=(title, heading),
            start=1000 * i,
        )
        for i, (heading, text) in enumerate(sections)
    ]


BREAD = essay(
    0,
    ("Waking a sleeping starter", f"Feed it flour and water for three days. {FILLER}"),
    ("Baking on a hot stone", f"As we said of baking on a hot stone, heat the oven for an hour before. {FILLER}"),
    title="Sourdough for the patient",
)
ROBOTS = essay(
    1,
    ("Reading robots files politely", f"Ask for the file first and keep it for a day or so. {FILLER}"),
    ("Baking", f"A word that is an ordinary one in any running text about baking robots. {FILLER}"),
    title="Crawlers with manners",
)


def make(chunks: Sequence[Chunk], *, dropout: float = 0.5, seed: int = 7) -> tuple[list[Chunk], GoldenSet]:
    return golden_set(chunks, queries=30, dropout=dropout, seed=seed)


def by_text(golden: GoldenSet, way: str) -> dict[str, GoldenQuery]:
    return {query.text: query for query in golden.queries if query.way == way}


def test_a_title_asks_for_its_document_and_a_heading_for_its_section():
    _, golden = make(BREAD + ROBOTS)
    assert set(by_text(golden, "title")) == {"Sourdough for the patient", "Crawlers with manners"}
    assert set(by_text(golden, "title")["Crawlers with manners"].relevant) == {c.id for c in ROBOTS}
    headings = by_text(golden, "heading")
    assert headings["Waking a sleeping starter"].relevant == (BREAD[0].id,)
    assert headings["Waking a sleeping starter"].document_id == BREAD[0].document_id


def test_nothing_that_is_asked_is_left_in_what_is_searched():
    searched, golden = make(BREAD + ROBOTS)
    for query in (*by_text(golden, "title"), *by_text(golden, "heading")):
        assert all(normalised(query) not in normalised(chunk.text) for chunk in searched)
    assert all(chunk.title == "" and chunk.headings == () for chunk in searched)


def test_a_table_of_contents_does_not_give_the_answer_away():
    contents = passage(
        90, document=0, text=f"- [Waking a sleeping starter]\n- Baking on a hot stone\n\n{FILLER}", title=BREAD[0].title
    )
    searched, _ = make([*BREAD, contents])
    [left] = [chunk for chunk in searched if chunk.id == contents.id]
    assert left.text.strip() == FILLER


def test_one_word_labels_and_those_of_several_documents_are_not_by_text():
    twin = essay(2, ("Baking on a hot stone", FILLER), title="Another page about ovens")
    _, golden = make(BREAD + ROBOTS + twin)
    assert "Baking on a hot stone" not in by_text(golden, "heading")
    assert "Baking" not in by_text(golden, "heading")


def test_a_section_that_begins_inside_a_passage_is_found_there_too():
    chunk = passage(
        95,
        document=5,
        text=f"{FILLER}\n\n## Kneading without regret\n\nFold it over and over. {FILLER}",
        title="On hands",
        headings=("On hands", "What came before"),
        start=0,
    )
    after = passage(
        96, document=5, text=FILLER + " More.", title="On hands", headings=("On hands", "Kneading without regret")
    )
    _, golden = make([*BREAD, chunk, after])
    assert set(by_text(golden, "heading")["Kneading without regret"].relevant) == {chunk.id, after.id}


def test_a_sentence_loses_words_and_still_asks_for_its_passage():
    searched, golden = make(BREAD + ROBOTS)
    texts = {chunk.id: chunk.text.split() for chunk in searched}
    sentences = by_text(golden, "sentence")
    assert sentences
    for text, query in sentences.items():
        for chunk_id in query.relevant:
            assert set(text.split()) <= set(texts[chunk_id])
    whole = make(BREAD + ROBOTS, dropout=0.0)[1]
    longest = max(len(text.split()) for text in by_text(whole, "sentence"))
    assert max(len(text.split()) for text in sentences) < longest


def test_a_sentence_that_stands_in_two_passages_is_answered_by_both():
    _, golden = make(BREAD + ROBOTS, dropout=0.0)
    shared = [query for query in golden.queries if query.text == FILLER]
    assert all(len(query.relevant) == 4 for query in shared)


def test_the_same_corpus_gives_the_same_version_and_another_one_does_not():
    one, again = make(BREAD + ROBOTS)[1], make(ROBOTS + BREAD)[1]
    edited = make([*BREAD, ROBOTS[0], ROBOTS[1].model_copy(update={"text": FILLER + " New."})])[1]
    assert one.version == again.version
    assert one.version != edited.version
    assert one.version != make(BREAD + ROBOTS, seed=8)[1].version


def test_a_document_is_in_one_half_only_and_both_halves_are_used():
    many = [
        chunk for i in range(20) for chunk in essay(i, (f"Heading number {i} here", FILLER), title=f"Page {i} of it")
    ]
    _, golden = make(many)
    halves: dict[str, set[str]] = {query.document_id: set() for query in golden.queries}
    for query in golden.queries:
        halves[query.document_id].add(query.half)
    assert all(len(found) == 1 for found in halves.values())
    assert {half_of(chunk.document_id, 7) for chunk in many} == {"choose", "measure"}


class Scripted:
    """Gives its replies one after the other, in pieces."""

    name, generative = "scripted", True

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.passages: list[str] = []

    def stream(
        self, prompt: Prompt, *, max_tokens: int, temperature: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Generator[str | Usage]:
        self.passages.append(prompt.messages[-1].content)
        reply = self.replies.pop(0)
        yield from (reply[:5], reply[5:])
        yield Usage(completion_tokens=3)

    def check(self) -> str:
        return "here"


def test_a_language_model_may_write_questions_and_what_is_none_is_left_out():
    model = Scripted(
        '"How long is the oven heated?"', "I cannot help with that.", "", "Which file is first?\nBecause …"
    )
    chunks = BREAD + ROBOTS
    questions = list(generate_questions(chunks, model=model, count=4, seed=7))
    assert [query.text for query in questions] == ["How long is the oven heated?", "Which file is first?"]
    ids = {chunk.text: chunk.id for chunk in chunks}
    assert questions[0].relevant == (ids[model.passages[0]],)
    assert {query.way for query in questions} == {"question"}
