# ruff: noqa: RUF001, RUF002
"""What others wrote is data: text that tries to command the model is marked, and reported, before the model reads it.

Nothing is rewritten: marked words stay readable, and control tokens lose only the brackets that make them tokens.
Unknown phrasings pass; that is why a passage is also fenced and called quoted material by the prompt.
"""

import re
from typing import NamedTuple

from llm_engineering.domain.passage_fence import without_fences
from llm_engineering.domain.prompts import QUOTED_END, QUOTED_START
from llm_engineering.domain.text import composed

# --- tokens that chat templates are made of -----------------------------------------------------------------

_OPEN, _CLOSE, _BAR = "[<＜﹤]", "[>＞﹥]", "[|｜]"
_TOKENS = re.compile(
    rf"{_OPEN}{_BAR}(?P<chatml>[^<>|｜\n]{{1,60}}){_BAR}{_CLOSE}"
    rf"|{_OPEN}(?P<tag>/?\s*(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|passage|tool_call|tool_response|system"
    rf"|assistant|user|think|im_start|im_end|SYS|BOS_TOKEN|EOS_TOKEN)(?:\s[^<>\n]{{0,200}})?/?){_CLOSE}"
    rf"|\[(?P<inst>/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG))\]"
    rf"|{_OPEN}{_OPEN}(?P<sys>/?SYS){_CLOSE}{_CLOSE}",
    re.IGNORECASE,
)
_ALPACA = re.compile(
    r"^(?P<hashes>#{2,4})(?=\s*(?:Instruction|Response|Input|System|Human|Assistant)s?\s*:)", re.I | re.M
)
_ROLE_LINE = re.compile(r"^(?P<role>[^\S\n]*(?:system|assistant|human|developer))(?P<colon>\s*:)(?=\s*\S)", re.I | re.M)

# --- characters that hide -----------------------------------------------------------------------------------

_TAGS = re.compile(  # those of a flag stay: a black flag, its tags and their end are England
    "(?P<flag>\U0001f3f4[\U000e0020-\U000e007e]{2,8}\U000e007f)|[\U000e0000-\U000e007f\U000e0100-\U000e01ef]+"
)
_BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OVERRIDE = re.compile("[\u202d\u202e]")
_INVISIBLE = re.compile("[\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb]")
_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])|[\u200c\u200d]{2,}")
_INVISIBLE_RUN = re.compile("[\u200b-\u200d\u2060-\u2064\ufeff]{4,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

# --- phrases that command -----------------------------------------------------------------------------------

_EARLIER = (
    r"(?:previous|prior|above|preceding|earlier|foregoing|existing|former|initial|original|system|your|these|those)"
)
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|commands?|orders?|context|constraints?|messages?)"
_PHRASES = {
    "ignore instructions": (
        rf"\b(?:ignore|disregard|forget|override|bypass|discard|neglect|skip)\b(?:\s+(?:all|any|every|each|of|the|my))*"
        rf"\s+{_EARLIER}(?>\s+(?:and|or|\w+ing|{_EARLIER})\b)*\s+{_ORDERS}\b",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all(?:\s+that)?)\s+"
        r"(?:(?:that\s+)?(?:was|is|were|has been)\s+"
        r"(?:said|written|stated)\s+)?(?:above|before|previously|you (?:were|have been) told|you know|i said)\b",
        r"\bignoriere?n?\s+(?:sie\s+)?(?:alle\s+)?(?:vorherigen|bisherigen|obigen)\s+(?:anweisungen|befehle|regeln)",
        r"\bignore[zr]?\s+(?:toutes\s+)?(?:les\s+)?(?:instructions|consignes)\s+(?:précédentes|antérieures|ci-dessus)",
        r"\bignor[ae]\s+(?:todas\s+)?(?:las\s+)?instrucciones\s+(?:anteriores|previas)",
        r"\bignora\s+(?:tutte\s+)?le\s+istruzioni\s+precedenti",
        r"(?:忽略|无视|忘记)(?:之前|以上|前面|上述)?(?:的)?(?:所有|全部)?(?:之前|以上|前面|上述)?的?(?:指令|指示|提示|说明)",
        r"(?:игнорируй(?:те)?|забудь(?:те)?)\s+(?:все\s+)?(?:предыдущие|прежние)\s+(?:инструкции|указания)",
        r"önceki\s+(?:tüm\s+)?(?:talimatları|komutları)\s+(?:yok\s+say|unut|görmezden\s+gel)",
    ),
    "new role": (
        r"\byou\s+are\s+now\s+(?:(?:in|a|an|the|no\s+longer|going\s+to\s+act)\s+)(?:\w+\s+){0,3}"
        r"(?:mode|assistant|ai|bot|model|dan|character|persona|agent|expert|bound|hacker|pirate|restricted)\b",
        r"\byou\s+are\s+(?:now\s+)?DAN\b",
        r"\bfrom\s+now\s+on,?\s+you\s+(?:are|will|must|shall|should)\b(?=.{0,60}\b(?:answer|respond|reply|act|say|obey|only|pretend|ignore)\b)",
        r"\b(?:pretend|act\s+as\s+if)\s+(?:that\s+)?(?:you|to)\s+(?:are|were|be|have)\s+(?:an?\s+)?(?:\w+\s+){0,2}"
        r"(?:unrestricted|jailbroken|uncensored|evil|different|no\s+(?:rules|restrictions|limits))",
        r"\b(?:enable|enter|activate|switch\s+to)\s+(?:developer|debug|god|dan|jailbreak|admin)\s+mode\b",
    ),
    "prompt theft": (
        r"\b(?:reveal|print|show|repeat|output|leak|display|tell\s+me|return|share|disclose)\s+(?:me\s+|us\s+)?(?:all\s+)?(?:of\s+)?"
        r"(?:your|the)\s+(?:full\s+|entire\s+|hidden\s+|secret\s+|initial\s+|original\s+|exact\s+)*"
        r"(?:system\s+prompts?|system\s+message|hidden\s+prompts?|initial\s+(?:prompt|instructions)|instructions\s+(?:above|verbatim)|api\s+keys?)\b",
    ),
    "instruction to the reader's model": (
        r"\b(?:new|updated|important|urgent|additional|hidden|secret)\s+(?:system\s+)?instructions?(?:\s*for\s+(?:the\s+)?"
        r"(?:ai|assistant|model|llm|chatbot|bot)\w*)?\s*:",
        r"\b(?:attention|note|message|instructions?)\s+(?:to|for)\s+(?:all\s+|any\s+|the\s+)?(?:ai|llm|language)\s*"
        r"(?:models?|assistants?|agents?|chatbots?|systems?)s?\b",
        r"\bif\s+you\s+are\s+an?\s+(?:ai|llm|large\s+language\s+model|language\s+model|assistant|chatbot)\b",
        r"\b(?:do\s+not|don't|never)\s+(?:tell|inform|mention\s+(?:this|it)\s+to|reveal\s+(?:this|it)\s+to|alert)\s+the\s+(?:user|reader|human)\b",
        r"\b(?:your|the)\s+(?:only|new|real|true)\s+(?:task|goal|job|objective|instruction)\s+(?:now\s+)?is\s+(?:now\s+)?to\b"
        r"(?=.{0,80}\b(?:say|reply|respond|answer|output|print|write|send)\b)",
        r"\b(?:respond|reply|answer)\s+(?:only\s+)?(?:with|by\s+saying)\s+(?:only\s+|exactly\s+|nothing\s+but\s+)"
        r"(?:the\s+(?:word|phrase|text|string|sentence)\b|[\"“'])",
        r"\bsystem\s+(?:override|prompt\s*:|alert\s*:|message\s*:)",
    ),
    "data theft": (
        r"\b(?:send|post|upload|exfiltrate|forward|transmit)\s+(?:all\s+|the\s+|this\s+|your\s+)*(?:conversation|chat\s+history|"
        r"user'?s?\s+(?:data|question|message|input)s?|system\s+prompt|secrets?|credentials|api\s+keys?)\s+to\b",
    ),
}
_INJECTIONS = {name: re.compile("|".join(patterns), re.IGNORECASE) for name, patterns in _PHRASES.items()}

_IMAGE = re.compile(r"!\[(?P<alt>[^\]\n]{0,300})\]\((?P<url>[^)\n]{0,2000})\)")
_HTML_IMAGE = re.compile(r"<(?=\s*(?:img|iframe|script|object|embed|svg|link|meta|form)\b)", re.IGNORECASE)
_CARRIES_DATA = re.compile(
    r"[?&#][^?&#]*(?:\{|\[|<|%7B|\$|DATA|SECRET|PROMPT|CONVERSATION|HISTORY|USER)|\{\w*\}|\$\{", re.I
)


class NeutralisedText(NamedTuple):
    """`found`: the names of what was neutralised, each once; empty for ordinary text."""

    text: str
    found: tuple[str, ...]


def neutralise(text: str) -> NeutralisedText:
    """A passage as a model may read it: visible, without control tokens, its commands marked as quotations."""
    found: list[str] = []
    text = _remove_hidden_text(text, found)
    text = _escape_control_tokens(text, found)
    text = _IMAGE.sub(lambda match: _image_without_url(match, found), text)
    for name, pattern in _INJECTIONS.items():
        marked = pattern.sub(lambda match: f"{QUOTED_START}{match.group()}{QUOTED_END}", text)
        if marked != text:
            found.append(name)
            text = marked
    return NeutralisedText(text, tuple(dict.fromkeys(found)))


def clean_user_text(text: str) -> str:
    """What a person typed, without control characters and without tokens of a chat template; what it asks for is theirs
    to ask."""
    return _escape_control_tokens(_remove_hidden_text(text, []), []).strip()


def strip_active_content(text: str) -> str:
    """A model's words as a page may show them: nothing in them loads by itself (an image's address can carry data)."""
    return _HTML_IMAGE.sub("‹", text.replace("![", "["))


def _remove_hidden_text(text: str, found: list[str]) -> str:
    if text.isascii() and not _CONTROL.search(text):
        return text.replace("\r\n", "\n").replace("\r", "\n")
    untagged = _TAGS.sub(lambda match: match["flag"] or "", text)
    if _OVERRIDE.search(text) or _INVISIBLE_RUN.search(text) or untagged != text:
        found.append("hidden text")
    text = untagged
    for pattern in (_BIDI, _INVISIBLE, _JOINER, _CONTROL):
        text = pattern.sub("", text)
    return composed(text.replace("\r\n", "\n").replace("\r", "\n"))


def _escape_control_tokens(text: str, found: list[str]) -> str:
    """`<|im_start|>` becomes ‹|im_start|›: still readable, and no token of any template."""

    def escaped(match: re.Match[str]) -> str:
        inner = match.group("chatml")
        if inner is not None:
            return f"‹|{inner}|›"
        if match.group("inst"):
            return f"({match.group('inst')})"
        return f"‹{match.group('tag') or match.group('sys')}›"

    for name, pattern, replacement in (
        ("control tokens", _TOKENS, escaped),
        ("fake prompt sections", _ALPACA, lambda match: "‹" + match.group("hashes") + "›"),
        ("fake turns", _ROLE_LINE, lambda match: match.group("role") + " (quoted)" + match.group("colon")),
    ):
        changed = pattern.sub(replacement, text)
        if changed != text:
            found.append(name)
            text = changed
    if (unfenced := without_fences(text)) != text:
        found.append("fake end of a passage")
    return unfenced


def _image_without_url(match: re.Match[str], found: list[str]) -> str:
    if _CARRIES_DATA.search(match.group("url")):
        found.append("image that would carry data away")
    return f"(image: {match.group('alt')})" if match.group("alt").strip() else "(image)"
