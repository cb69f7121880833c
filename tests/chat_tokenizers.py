"""Small tokenizers made on the spot, in several styles of chat templates."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_ASSISTANT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + _ASSISTANT
CHATML_TAGGED = (  # as many training templates have it: the tag is closed before the end-of-turn token
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    + _ASSISTANT
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (  # no system role, user and assistant in turns
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}### Response:\n{{ m.content + eos_token }}"
    "{{ '\n\n' if not loop.last }}{% else %}### Instruction:\n{{ m.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
STYLES = {"chatml": CHATML, "tagged": CHATML_TAGGED, "llama": LLAMA, "gemma": GEMMA, "alpaca": ALPACA, "none": None}

# templates that cannot be trained with
BROKEN = "{{ raise_exception('never') }}"
ENDLESS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ 'assistant:' if add_generation_prompt }}"
)
PROMPTLESS = CHATML.removesuffix(_ASSISTANT)
FORGETFUL = CHATML.replace(  # as reasoning models': an answer is written otherwise when it is not the last one
    "{{ m.content }}", "{{ '(thought) ' if m.role == 'assistant' and not loop.last }}{{ m.content }}"
)
HINTING = CHATML.replace(  # what serving sends is not what training sees
    "{{ m.content }}", "{{ m.content }}{{ ' /think' if m.role == 'user' and loop.last }}"
)

_SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>"]
_SPECIAL += ["<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]
_TEXT = [
    "Sourdough bread needs flour, water and salt.",
    "A crawler should honour robots.txt and wait.",
    "0123456789 []",
]
_TEXT += ["### Instruction:\n### Response:\n", "User: Assistant: "]


def make_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as Llama's and SmolLM's; plain text gets a BOS token, as theirs does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=_SPECIAL[3:],
    )
    fast.chat_template = template
    return fast
