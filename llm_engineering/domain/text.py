"""Text that every store can keep, and addresses that may be shown."""

import re
from datetime import timedelta

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


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
