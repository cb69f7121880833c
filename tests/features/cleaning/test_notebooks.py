"""Jupyter notebooks as text."""

import json

import pytest

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.clean import clean_body

KIND = "application/x-ipynb+json"


def notebook(*cells, **metadata):
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def test_prose_stays_and_code_is_fenced_with_its_language():
    body = notebook(
        {"cell_type": "markdown", "source": ["# Title\n", "Some *prose*."]},
        {"cell_type": "code", "source": "x <- 1\n", "outputs": [{"text": "OUTPUT"}]},
        {"cell_type": "code", "source": ["  \n"]},
        {"cell_type": "raw", "source": "as it is"},
        {"cell_type": "unknown", "source": "dropped"},
        language_info={"name": "R"},
    )
    cleaned = clean_body(body, KIND)
    assert cleaned.text == "# Title\nSome *prose*.\n\n```r\nx <- 1\n```\n\nas it is"
    assert cleaned.title == "Title"
    assert cleaned.syntax == "markdown"


def test_the_kernel_names_the_language_or_else_it_is_python():
    cell = {"cell_type": "code", "source": "1"}
    assert "```julia\n" in clean_body(notebook(cell, kernelspec={"language": "julia"}), KIND).text
    assert "```python\n" in clean_body(notebook(cell), KIND).text
    assert "```python\n" in clean_body(json.dumps({"cells": [cell]}), KIND).text


def test_code_holding_a_fence_does_not_end_its_own():
    cell = {"cell_type": "code", "source": '"""\n```\n"""'}
    assert clean_body(notebook(cell), KIND).text == '````python\n"""\n```\n"""\n````'


def test_the_old_format_is_read_too():
    cells = [{"cell_type": "heading", "level": 2, "source": "Part"}, {"cell_type": "code", "input": ["y = 2"]}]
    assert clean_body(json.dumps({"worksheets": [{"cells": cells}]}), KIND).text == "## Part\n\n```python\ny = 2\n```"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{not json", "broken"),
        ("[]", "no list of cells"),
        ('{"cells": 3}', "no list of cells"),
        ('{"cells": [1]}', "not an object"),
        ("[" * 100_000, "broken"),
        ('{"worksheets": [1]}', "no list of cells"),
    ],
)
def test_what_is_no_notebook_says_so(body, why):
    with pytest.raises(CleaningError, match=why):
        clean_body(body, KIND)
