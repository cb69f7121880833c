"""Text that every store can keep, and addresses that may be shown."""

import re

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
