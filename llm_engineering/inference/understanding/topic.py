# ruff: noqa: RUF001
"""What a question is about, without the words that say where to look and the frame around them.

"What did Ann write about caching since March?" with the filters Ann and March is about "caching". The frame says the
same in every question, so what is searched with it is nearer to every passage that speaks of writing, and further
from the ones on caching: docs/evaluate-retrieval.md has the figures.
"""

import re
from collections.abc import Iterable

from llm_engineering.domain.prose import content_words
from llm_engineering.inference.understanding.query_filters import SAYING, Span

FILTER_PLACEHOLDER = "\ufffc"  # stands where a filter stood

_REQUEST_VERB = (
    r"(?:(?:can|could|would|will)\s+you|do\s+you\s+know|i\s+(?:would\s+like|want|need)|i['’]d\s+like"
    r"|i(?:['’]m|\s+am)\s+(?:wondering|curious|interested))"
)
_REPLY_VERB = (
    r"(?:(?:tell|show|teach|give)\s+(?:me|us)|to\s+(?:know|learn|understand|hear)|explain|describe|summari[sz]e)"
)
_REQUEST = re.compile(
    rf"^\W*(?:(?:hi|hello|hey|please)\b[\s,!.]*)*(?:{_REQUEST_VERB}\s+(?:please\s+)?)?{_REPLY_VERB}\b"
    r"(?:\s+(?:more|something|everything|anything|a\s+bit))?(?:\s+(?:about|on|whether|if)\b)?\s+(?=\w)",
    re.IGNORECASE,
)
_OPENING = re.compile(  # words without a topic of their own; "how" and "why" stay, since they say what is asked
    rf"(?:what|which|whose|is|are|was|were|be|been|do|does|did|has|have|had|would|there|any|anything|something|everything|"
    rf"stuff|ever|also|actually|really|exactly|the|a|an|all|his|her|their|i|you|we|me|show|find|list|give|tell|search|"
    rf"summari[sz]e|and|or|of|about|on|in|from|by|to|for|with|that|regarding|concerning|according|"
    rf"say|saying|{SAYING}|advice|opinions?|views?|take|thoughts?|position|ideas?|words?|articles?|essays?|blog|posts?|"
    rf"repos(?:itor(?:y|ies))?|code|texts?|pages?|notes?|"
    rf"was|hat|haben|hast|gibt|es|etwas|über|zu|zum|zur|von|der|die|das|dass|artikel|beiträge|"
    rf"que|qu|quoi|quel(?:le)?s?|est|ce|sur|propos|de|du|des|le|la|les|articles?)",
    re.IGNORECASE,
)
_BEFORE_FILTER = re.compile(
    r"\b(?:(?:written|published|posted|said|shared)\s+)?(?:by|from|of|in|on|at|since|von|de|du|according\s+to|laut|selon)\s*$",
    re.IGNORECASE,
)
_AFTER_FILTER = re.compile(r"^['’](?:s\b)?", re.IGNORECASE)
_VERB_AROUND_FILTER = re.compile(
    rf"(?<!\s)\s*\b(?:does|did|do|has|have|had|would|hat)?\s*{FILTER_PLACEHOLDER}(?:\s+(?:{SAYING})\b)?(?:\s+that\b)?",
    re.IGNORECASE,
)
_TRAILING = ("geschrieben", "gesagt", "what", "and")  # left hanging at the end when the filter before it is gone
_REACH = 100  # characters before a filter in which its preposition stands
_WORD = re.compile(rf"[\w'’-]+|{FILTER_PLACEHOLDER}")


def topic(question: str, spans: Iterable[Span] = ()) -> str:
    """`spans` are the places of the filters that hold. "" when nothing is left to search for."""
    text, filters = _mask_filters(question, spans)
    if filters:
        text = _VERB_AROUND_FILTER.sub("", text[_end_of_opening(text) :])
        rest = _without_trailing(text.replace(FILTER_PLACEHOLDER, " "))
    elif request := _REQUEST.match(text):
        rest = text[request.end() :]
    else:
        return text
    rest = re.sub(r"(?<!\s)\s+(?=[?!.,;:])", "", " ".join(rest.split())).strip(" ,;:–-")
    return rest if any(content_words(rest)) else ""


def _mask_filters(question: str, spans: Iterable[Span]) -> tuple[str, int]:
    """Each filter with its preposition becomes one FILTER_PLACEHOLDER; filters that overlap or touch become one."""
    text, count = question.replace(FILTER_PLACEHOLDER, " "), 0
    merged: list[list[int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    for start, end in reversed(merged):
        before, after = text[:start], _AFTER_FILTER.sub("", text[end:])
        if preposition := _BEFORE_FILTER.search(before, max(0, len(before) - _REACH)):
            before = before[: preposition.start()]
        text, count = f"{before} {FILTER_PLACEHOLDER} {after}", count + 1
    return text, count


def _without_trailing(text: str) -> str:
    """Without the words of _TRAILING at its end; the signs after them stay."""
    words = list(re.finditer(r"\w+", text))
    kept = len(words)
    while kept and words[kept - 1].group().lower() in _TRAILING:
        gap = text[words[kept - 2].end() if kept > 1 else 0 : words[kept - 1].start()]
        if not gap or gap.strip(" \t\n\r\f\v,"):
            break
        kept -= 1
    if kept == len(words):
        return text
    return text[: words[kept - 1].end() if kept else 0] + text[words[-1].end() :]


def _end_of_opening(text: str) -> int:
    """Where the leading words end that say nothing of the subject, when a filter is among them; else 0."""
    at, filter_seen = 0, False
    for word in _WORD.finditer(text):
        if filter_seen and "," in text[at : word.start()]:
            break
        if word.group() == FILTER_PLACEHOLDER:
            filter_seen = True
        elif not _OPENING.fullmatch(word.group()):
            break
        at = word.end()
    return at if filter_seen else 0
