"""Text that every store can keep, text that a terminal may be given, and addresses that may be shown."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from unicodedata import combining, normalize

MAX_MARKS = 30  # of one letter, as in Unicode's stream-safe text (UAX #15, section 13)
_MAYBE_MARKS = re.compile(rf"[\u0300-\U0010ffff]{{{MAX_MARKS + 1},}}")  # no mark lies below
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# What a terminal obeys and does not show: C0 and C1 controls but tab and line feed, DEL, marks of direction, separators
# of lines that are none, annotations, tags; and halves of characters, which cannot be written at all.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def storable(text: str) -> str:
    """What UTF-8 and every store can hold: a surrogate pair becomes its character, a lone surrogate U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_in_place(text: str) -> str:
    """NUL and lone surrogates become U+FFFD one for one, so that every offset into `text` stays right."""
    return _UNSTORABLE.sub("\ufffd", text)


def printable(text: str) -> str:
    """Without what would steer a terminal (move its cursor, name its window, write its clipboard, turn its letters
    round). Line feeds and tabs stay."""
    return _STEERING.sub("", text)


def escaped(text: str) -> str:
    """As `printable`, but with the escape of each character where it stood, to be looked at."""
    return _STEERING.sub(lambda match: ascii(match[0])[1:-1], text)


def printable_json(text: str) -> str:
    """JSON that says the same and that a terminal may be given: what would steer it is escaped. Such characters only
    stand inside the strings of JSON."""
    return _STEERING.sub(lambda match: json.dumps(match[0])[1:-1], text)


def redacted_url(url: str) -> str:
    """`url` without user, password, query and fragment, for messages and pages.

    Whatever stands before the last `@` goes, since a password may hold any character.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{scheme}{separator}{re.split('[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"


def size_text(number: float) -> str:
    """Bytes as people write them: 999 B, 1.5 kB, 2.5 GB."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def duration_text(seconds: float) -> str:
    """59.9 s, and from a minute on 1:01:01."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def composed(text: str) -> str:
    """NFC. Marks beyond the MAX_MARKS of one letter stay as they are: to sort them takes the square of their number."""
    parts, at = [], 0
    for start, end in _surplus_marks(text):
        parts += [normalize("NFC", text[at:start]), text[start:end]]
        at = end
    return "".join((*parts, normalize("NFC", text[at:])))


def _surplus_marks(text: str) -> Iterator[tuple[int, int]]:
    for run in _MAYBE_MARKS.finditer(text):
        marks = 0
        for place, mark in enumerate(map(combining, run.group()), start=run.start()):
            if not mark and marks > MAX_MARKS:
                yield place - marks + MAX_MARKS, place
            marks = marks + 1 if mark else 0
        if marks > MAX_MARKS:
            yield run.end() - marks + MAX_MARKS, run.end()
