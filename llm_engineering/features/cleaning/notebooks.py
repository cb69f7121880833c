"""Jupyter notebooks: the prose, and the code in fences. Outputs are not what the author wrote, and stay out."""

import json
from typing import Any

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.cleaning.code import CodeBlock
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
            return [cell for sheet in sheets for cell in sheet.get("cells", [])]
    raise CleaningError("not a notebook: there is no list of cells in it")


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        known = metadata.get(part) if isinstance(metadata, dict) else None
        if isinstance(known, dict) and isinstance(known.get(key), str):
            return known[key].lower()
    return "python"


def _block(cell: Any, language: str) -> str:
    if not isinstance(cell, dict):
        raise CleaningError("not a notebook: one of its cells is not an object")
    source = cell.get("source", cell.get("input", ""))
    text = clean_code("".join(map(str, source)) if isinstance(source, list) else str(source))
    match cell.get("cell_type"):
        case "markdown" | "raw":
            return text.strip("\n")
        case "heading":  # nbformat 3
            return f"{'#' * int(cell.get('level') or 1)} {' '.join(text.split())}"
        case "code" if text.strip():
            return fenced(CodeBlock(text.rstrip(), language))
    return ""
