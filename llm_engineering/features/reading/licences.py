"""The licence of a repository."""

from pathlib import Path

_LICENCE_NAMES = ("license", "licence", "copying", "unlicense")
_LICENCES = (  # a phrase each text has and none above it; the longer-named relatives first
    ("AGPL-3.0", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0", ("gnu general public license", "version 3")),
    ("GPL-2.0", ("gnu general public license", "version 2")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("EPL-2.0", ("eclipse public license", "2.0")),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("Unlicense", ("free and unencumbered software released into the public domain",)),
    ("BSL-1.0", ("boost software license",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
    ("MIT", ("permission is hereby granted, free of charge", "the above copyright notice")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
)


def licence_of(root: Path) -> str | None:
    """The SPDX id of the licence file at the root, told by phrases of its text; None when there is none we know."""
    for path in sorted(root.iterdir()):
        if path.name.lower().split(".")[0].split("-")[0] in _LICENCE_NAMES and path.is_file() and not path.is_symlink():
            with path.open(encoding="utf-8", errors="replace") as file:
                text = " ".join(file.read(50_000).split()).casefold()
            for spdx, phrases in _LICENCES:
                if all(phrase in text[:3_000] for phrase in phrases):
                    return spdx
    return None
