"""Jupyter notebooks: the prose, and the code in fences. Outputs are not what the author wrote, and stay out."""

import json
from typing import Any

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.code import CodeBlock, is_language
from llm_engineering.features.cleaning.plain import clean_code, clean_markdown
from llm_engineering.features.cleaning.render import fenced


def clean_notebook(body: str) -> Cleaned:
    """The Markdown of nbformat 3 or 4, with its title and date. Raises CleaningError when it is not a notebook."""
    try:
        notebook = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CleaningError(f"not a notebook: its JSON is broken ({error}); save it again from Jupyter") from None
    cells = _cells(notebook)
    language = _language(notebook)
    blocks = [block for cell in cells if (block := _block(cell, language))]
    return clean_markdown("\n\n".join(blocks))


def _cells(notebook: Any) -> list[Any]:
    if isinstance(notebook, dict):
        if isinstance(notebook.get("cells"), list):
            return notebook["cells"]
        sheets = notebook.get("worksheets")
        if isinstance(sheets, list) and all(isinstance(sheet, dict) for sheet in sheets):
            lists = [sheet.get("cells", []) for sheet in sheets]
            if all(isinstance(cells, list) for cells in lists):
                return [cell for cells in lists for cell in cells]
    raise CleaningError("not a notebook: there is no list of cells in it")


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        known = metadata.get(part) if isinstance(metadata, dict) else None
        name = known.get(key) if isinstance(known, dict) else None
        if isinstance(name, str) and is_language(name):
            return name.lower()
    return "python"


def _block(cell: Any, language: str) -> str:
    if not isinstance(cell, dict):
        raise CleaningError("not a notebook: one of its cells is not an object")
    source = cell.get("source", cell.get("input", ""))
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise CleaningError("not a notebook: the source of one of its cells is no text")
    text = clean_code("".join(lines))
    match cell.get("cell_type"):
        case "markdown" | "raw":
            return text.strip("\n")
        case "heading":  # nbformat 3
            return f"{'#' * _level(cell.get('level'))} {' '.join(text.split())}"
        case "code" if text.strip():
            return fenced(CodeBlock(text.rstrip(), language))
    return ""


def _level(level: Any) -> int:
    """Of a heading: 1 to 6, whatever number the notebook says."""
    return min(max(level, 1), 6) if isinstance(level, int) else 1
