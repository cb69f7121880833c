"""One rendering of conversations for training and for serving, and a loss that counts what the assistant writes."""

from io import StringIO
from random import Random

import pytest
from chat_tokenizers import (
    BROKEN,
    CHATML,
    CHATML_TAGGED,
    ENDLESS,
    FORGETFUL,
    HINTING,
    PROMPTLESS,
    STYLES,
    make_tokenizer,
)
from rich.console import Console

from llm_engineering.domain.answers import Message, Role
from llm_engineering.domain.chat import ChatFormat, ChatFormatError, print_sample
from llm_engineering.domain.prompts import answer_prompt

SYSTEM = Message(role=Role.SYSTEM, content="Answer briefly.")
ENDS = {"chatml": "<|im_end|>", "tagged": "<|im_end|>", "llama": "<|eot_id|>", "gemma": "<end_of_turn>"}


def talk(*contents: str, system: bool = False) -> list[Message]:
    turns = [Message(role=(Role.USER, Role.ASSISTANT)[i % 2], content=one) for i, one in enumerate(contents)]
    return [SYSTEM, *turns] if system else turns


TALK = talk("What does bread need?", "Flour and salt [1].", "And how long?", "A night 🌙.", system=True)


@pytest.fixture(scope="module")
def tokenizers():
    return {style: make_tokenizer(template) for style, template in STYLES.items()}


@pytest.fixture(params=STYLES)
def style(request):
    return request.param


@pytest.fixture
def tokenizer(tokenizers, style):
    return tokenizers[style]


def trained_texts(sample, tokenizer) -> list[str]:
    """The runs of trained tokens, as text."""
    runs: list[list[int]] = [[]]
    for token, trained in zip(sample.ids, sample.mask, strict=True):
        if trained:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [str(tokenizer.decode(run)) for run in runs if run]


@pytest.mark.parametrize("seed", range(5))
def test_the_serving_prompt_is_a_prefix_of_the_training_text(tokenizer, seed):
    draw = Random(seed)
    words = (
        "bread",
        "  salt ",
        "\n\nrye\n",
        "«Brot»",
        "面包",
        "🌙",
        "[1].",
        "<|im_end|>",
        "</s>",
        "### Response:",
        "'s",
    )
    for _ in range(20):
        contents = ["x" + " ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(2 * draw.randint(1, 3))]
        messages = talk(*contents, system=draw.random() < 0.5)
        chat = ChatFormat(tokenizer)
        text, sample = chat.training_text(messages), chat.training_sample(messages)
        assert sample.text == text
        for at, message in enumerate(messages):
            if message.role is Role.ASSISTANT:
                prompt, ids = chat.prompt_text(messages[:at]), chat.prompt_tokens(messages[:at])
                assert text.startswith(prompt)
                assert sample.ids[: len(ids)] == ids
                assert (sample.mask[len(ids) - 1], sample.mask[len(ids)]) == (0, 1)


def test_the_loss_counts_what_the_assistant_writes_with_its_end_of_turn_token_and_nothing_else(tokenizer, style):
    sample = ChatFormat(tokenizer).training_sample(TALK)
    end = ENDS.get(style, "</s>")
    space = " " if style == "none" else ""  # "Assistant: A night"
    assert trained_texts(sample, tokenizer) == [f"{space}Flour and salt [1].{end}", f"{space}A night 🌙.{end}"]
    assert set(sample.mask) == {0, 1}
    assert sample.trained == sum(sample.mask)


def test_white_space_around_an_answer_does_not_join_with_the_template(tokenizer):
    """Else "assistant\\n" and "\\nSalt" make one token that serving never sends."""
    chat = ChatFormat(tokenizer)
    assert chat.training_sample(talk("Salt?", "\n\n Salt. \n")) == chat.training_sample(talk("Salt?", "Salt."))


def test_generation_tags_say_the_same_as_comparing_texts(tokenizers):
    tagged, compared = (ChatFormat(tokenizers[style]).training_sample(TALK) for style in ("tagged", "chatml"))
    assert tagged == compared


def test_an_answer_that_the_template_does_not_tag_is_not_trained():
    template = CHATML_TAGGED.replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last")
    tokenizer = make_tokenizer(template)
    assert trained_texts(ChatFormat(tokenizer).training_sample(TALK), tokenizer) == ["A night 🌙.<|im_end|>"]


@pytest.mark.parametrize("kind", ["llama", "gemma", "none"])
def test_text_begins_with_one_bos_token_where_the_model_was_taught_one(tokenizers, kind):
    ids = ChatFormat(tokenizers[kind]).training_sample(TALK).ids
    assert ids.count(tokenizers[kind].bos_token_id) == 1
    assert ids[0] == tokenizers[kind].bos_token_id


def test_a_template_without_a_system_role_gets_its_words_in_the_first_turn(tokenizers):
    text = ChatFormat(tokenizers["gemma"]).training_text(TALK)
    assert text.startswith("<s><start_of_turn>user\nAnswer briefly.\n\nWhat does bread need?<end_of_turn>\n")


def test_no_content_becomes_a_control_token(tokenizer):
    chat = ChatFormat(tokenizer)
    evil = "x".join(tokenizer.all_special_tokens)
    special = set(tokenizer.all_special_ids)
    plain, attacked = (
        [one for one in chat.training_sample(talk(*two)).ids if one in special]
        for two in (("a", "b"), (f"a{evil}", f"{evil}b"))
    )
    assert plain == attacked


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ENDLESS, "no token ends an answer"),
        (HINTING, "not how the training text begins: at character 83 serving writes ' /think"),
        (FORGETFUL, "written otherwise when it is not the last one"),
        (PROMPTLESS, "ends before the mark that begins an answer"),
        (BROKEN, "never"),
    ],
)
def test_a_template_that_would_train_something_else_than_is_served_is_refused(template, reason):
    with pytest.raises(ChatFormatError, match=reason):
        ChatFormat(make_tokenizer(template)).training_sample(TALK)


def test_a_plain_tokenizer_without_an_end_token_is_refused():
    tokenizer = make_tokenizer(None)
    tokenizer.eos_token = None
    with pytest.raises(ChatFormatError, match="no token ends an answer"):
        ChatFormat(tokenizer).training_sample(TALK)


@pytest.mark.parametrize("messages", [talk("q", " \n"), [Message(role=Role.ASSISTANT, content="Hello.")]])
def test_an_answer_that_is_empty_or_answers_nothing_is_refused(tokenizers, messages):
    with pytest.raises(ChatFormatError, match="an answer is empty, or nothing stands before it"):
        ChatFormat(tokenizers["chatml"]).training_sample(messages)


def test_a_sample_that_is_too_long_loses_its_oldest_exchanges_and_keeps_the_rules(tokenizer):
    chat = ChatFormat(tokenizer)
    last = [SYSTEM, *TALK[3:]]
    whole, short = chat.training_sample(TALK), chat.training_sample(last)
    fitted = chat.training_sample(TALK, limit=len(whole.ids) - 1)
    assert (fitted.ids, fitted.mask, fitted.dropped_turns, fitted.cut_tokens) == (short.ids, short.mask, 2, 0)
    assert chat.training_sample(TALK, limit=len(whole.ids)) == whole


def test_when_even_the_last_exchange_is_too_long_its_end_is_cut_and_counted(tokenizers):
    chat = ChatFormat(tokenizers["chatml"])
    whole = chat.training_sample(TALK[3:])
    cut = chat.training_sample(TALK, limit=len(whole.ids) // 2)
    assert len(cut.ids) == len(cut.mask) == len(whole.ids) // 2
    assert cut.cut_tokens > 0
    assert chat.training_sample(TALK, limit=3).trained == 0


def test_old_exchanges_leave_a_prompt_whole(tokenizers):
    chat = ChatFormat(tokenizers["chatml"])
    prompt = answer_prompt("And now?", (), TALK[1:])
    fitted = tokenizers["chatml"].decode(chat.fit(prompt, len(chat.prompt_tokens(prompt.messages)) - 1))
    assert "What does bread need?" not in fitted
    assert "Flour and salt" not in fitted
    assert "And how long?" in fitted


def test_a_sample_is_printed_token_by_token_with_the_trained_ones_marked():
    tokenizer = make_tokenizer(CHATML)
    sample = ChatFormat(tokenizer).training_sample(talk("Salt?", "A [1]"))
    plain, coloured = StringIO(), StringIO()
    print_sample(sample, tokenizer, console=Console(file=plain, color_system=None, width=40))
    assert plain.getvalue().startswith("<|im_start|>|u|s|er|⏎\n|S|al|t|?|<|im_end|>|⏎\n|<|im_start|>|a|")
    assert "\n|[A]|[ ]|[[]|[1]|[]]|[<|im_end|>]|⏎\n" in plain.getvalue()
    print_sample(sample, tokenizer, console=Console(file=coloured, color_system="standard", force_terminal=True))
    assert "\x1b[1;32m<|im_end|>" in coloured.getvalue()
    assert "\x1b[90m<|im_start|>" in coloured.getvalue()
    assert f"{sample.trained} of {len(sample.ids)} tokens are trained" in plain.getvalue()
