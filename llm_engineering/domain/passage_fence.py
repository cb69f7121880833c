# ruff: noqa: RUF001
"""The fence around a passage in the prompt, kept out of the passage: nothing in a text may read as its end.

A model is no parser. It takes `< /passage>`, `</PASSAGE x="<">`, `&lt;/passage&gt;` or full-width, Cyrillic and
invisibly broken spellings for the end of the quotation, too. So each opening bracket before the fence's name loses its
meaning (MARKED), however either is written, and whatever follows.
"""

import re
import unicodedata
from functools import lru_cache

MARKED = "‹"  # as a reader sees it
_NAME = "passage"
_REACH = 400  # characters after the bracket in which the name may stand
_GAP = 3  # signs between two letters of the name, as in p-a-s-s-a-g-e

_OPENING = re.compile(
    r"[<＜﹤〈〈⟨❬❮❰⧼˂ᐸ≺]|[\[{(［｛（](?=[\s\u200b]{0,9}[/／⁄∕\\])"  # of [ { ( only the closing [/passage]
    r"|&(?:amp;){0,3}(?:lt|\#0{0,9}60|\#x0{0,9}3c)(?:;|(?![\w]))|&(?:amp;){0,3}lt(?=;?/?\s*p)|\\u003c|\\x3c|%3c",
    re.IGNORECASE,
)
_SIGNS = frozenset(" /\\!|-.*_'\":;=~`")
_SLASHES = dict.fromkeys("⁄∕⧸╱⟋", "/")
_LOOKALIKES = dict(  # as Unicode's list of confusables has them, for the letters of the name
    zip("рρᴘаαɑᴀѕꜱɡɢԍցеεєᴇ", "pppaaaassggggeeee", strict=True)
)
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")  # letters that show nothing


def without_fences(text: str) -> str:
    """Every bracket that would begin or end a passage becomes MARKED; all else stays. Linear in the text."""
    return _OPENING.sub(lambda found: MARKED if _names_the_fence(text, found.end()) else found.group(), text)


def _names_the_fence(text: str, at: int) -> bool:
    letters, gap = 0, 0
    for character in text[at : at + _REACH]:
        for one in _folded(character):
            if one == _NAME[letters]:
                letters, gap = letters + 1, 0
                if letters == len(_NAME):
                    return True
            elif one in _SIGNS and (not letters or gap < _GAP):
                gap += 1
            else:
                return False
    return False


@lru_cache(maxsize=10_000)
def _folded(character: str) -> str:
    """Without case, accent and width; "" for what shows nothing, a space for every white space."""
    if character in _FILLERS:
        return ""
    kept = []
    for one in unicodedata.normalize("NFKD", character).casefold():
        kind = unicodedata.category(one)
        if one.isspace():
            kept.append(" ")
        elif kind not in ("Cc", "Cf", "Mn", "Me", "Cn", "Co"):
            kept.append(_LOOKALIKES.get(one) or _SLASHES.get(one) or one)
    return "".join(kept)
