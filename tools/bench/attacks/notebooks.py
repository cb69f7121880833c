"""Jupyter notebooks."""

import json
from collections.abc import Callable

from tools.bench.attacks.item import PROSE, Item, file_item


def _notebook(name: str, notebook: Callable[[], object]) -> Item:
    def text() -> str:
        made = notebook()
        return made if isinstance(made, str) else json.dumps(made)

    return file_item(f"notebook-{name}.ipynb", text)


def _cell(**cell: object) -> dict[str, object]:
    return {"cells": [{"cell_type": "markdown", "source": PROSE}, cell], "metadata": {}, "nbformat": 4}


NOTEBOOKS = (
    _notebook("level-of-a-billion", lambda: _cell(cell_type="heading", level=10**9, source="x")),
    _notebook("level-infinite", lambda: json.dumps(_cell(cell_type="heading", level=1.5)).replace("1.5", "1e999")),
    _notebook("level-of-words", lambda: _cell(cell_type="heading", level="first", source="x")),
    _notebook("number-of-digits", lambda: json.dumps(_cell(x=1)).replace('"x": 1', '"x": ' + "9" * 50_000)),
    _notebook("deep", lambda: "[" * 200_000),
    _notebook("without-cells", lambda: {"worksheets": [{"cells": None}]}),
    _notebook("cells-of-numbers", lambda: {"cells": [1, 2, 3]}),
    _notebook("language-of-fences", lambda: {**_cell(cell_type="code", source="x"), "metadata": {
        "language_info": {"name": "```\n# not the author's\n" + "`" * 5_000}}}),
    _notebook("heading-of-spaces", lambda: _cell(cell_type="markdown", source="# a" + " " * 6_000 + "b")),
)  # fmt: skip
