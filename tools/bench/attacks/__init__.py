"""Hostile items: files, pages, feeds and archives of at most a few megabytes that were made to stop a reader.

Each is a name, a kind and its bytes, the same every time. Nothing here reads them: `tools.bench.hostile_items`
serves them among good ones, and tests may give them to one reader at a time.
"""

from tools.bench.attacks.answers import ANSWERS
from tools.bench.attacks.item import Item
from tools.bench.attacks.lists import LISTS
from tools.bench.attacks.markdown import MARKDOWN
from tools.bench.attacks.notebooks import NOTEBOOKS
from tools.bench.attacks.pages import PAGES
from tools.bench.attacks.pdfs import PDFS

__all__ = ["ITEMS", "Item"]

ITEMS = (*MARKDOWN, *NOTEBOOKS, *PDFS, *PAGES, *ANSWERS, *LISTS)
