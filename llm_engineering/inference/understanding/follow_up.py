"""A question that leans on the turns before is made to stand alone."""

import re
from collections.abc import Callable, Sequence

from llm_engineering.domain.answers import Message, Role
from llm_engineering.domain.prose import content_words

MAX_CARRIED_WORDS = 20  # taken over from the turns before
MAX_EARLIER = 10  # questions that are looked back at
LONGEST_EARLIER = 2_000  # characters that are read of each: a client may send any history

_PRONOUN = re.compile(
    r"\b(?:it|its|this|that|these|those|they|them|their|theirs|he|him|his|she|her|hers|there|the\s+(?:former|latter|same)|"
    r"(?:the\s+)?(?:first|second|third|last|other)\s+one)\b",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(  # "that" and "it" which point at nothing before
    r"\b(?:say|says|said|think|thinks|mean|means|know|believe|so|such|now|ensure|sure|claim|claims|argue|argues|given)\s+that\b"
    r"|\b\w+\s+that\s+(?:\w+s|is|are|was|were|can|has|have|makes?|do|does)\b|\bis\s+(?:it|there)\s+\w+"
    r"|\b(?:is|are|was|were)\s+there\b|\bthere\s+(?:is|are|was|were)\b|\bit\s+(?:take|takes|cost|costs)\b",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(
    r"^\W*(?:and|but|or|so|also|then|what\s+about|how\s+about|what\s+else|why(?:\s+not)?\W*$|how\s+so|how\s+come\W*$|"
    r"really|for\s+example|such\s+as|which\s+one|tell\s+me\s+more|more\b|go\s+on|continue|explain(?:\s+more|\s+further)?\W*$|"
    r"can\s+you\s+(?:elaborate|explain)|in\s+what\s+way|since\s+when|examples?\W*$|please)\b",
    re.IGNORECASE,
)


def needs_context(question: str) -> bool:
    """It points at something said before (a pronoun), or is no whole question (an ellipsis)."""
    if _ELLIPSIS.search(question) or _PRONOUN.search(_EXPLETIVE.sub(" ", question)):
        return True
    return len({word.stem for word in content_words(question)}) <= 1


def earlier_questions(history: Sequence[Message]) -> list[str]:
    """What the last question may lean on, newest first, back to one that stands alone."""
    found: list[str] = []
    for message in reversed(history):
        if message.role is Role.USER and message.content.strip():
            found.append(message.content[:LONGEST_EARLIER])
            if len(found) == MAX_EARLIER or not needs_context(found[-1]):
                break
    return found


def standalone_question(question: str, history: Sequence[Message], *, topic_of: Callable[[str], str] = str) -> str:
    """The question's topic, followed by the content words of the topics of those that it leans on."""
    own = topic_of(question) or question
    if not history or not needs_context(question):
        return own
    known = {word.stem for word in content_words(own)}
    added: list[str] = []
    for earlier in map(topic_of, reversed(earlier_questions(history))):  # the one that stands alone names the topic
        for word in content_words(earlier):
            if word.stem not in known and len(added) < MAX_CARRIED_WORDS:
                known.add(word.stem)
                added.append(earlier[word.start : word.end])
    return f"{own} ({' '.join(added)})" if added else own
