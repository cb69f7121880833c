"""The one way to the terminal for text that is not ours: titles, passages, names, links, reasons, what clients sent."""

from typing import Any

import click

from llm_engineering.domain.text import printable, printable_json


def plain(text: object) -> str:
    """One line for rich: nothing in it is markup, and nothing steers the terminal."""
    from rich.markup import escape

    return escape(" ".join(printable(str(text)).split()))


def plain_lines(text: object) -> str:
    """As `plain`, of each line."""
    return "\n".join(map(plain, str(text).split("\n")))


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Lines of text as they are, to the standard output or error; nothing in them steers the terminal."""
    click.echo(printable(str(text)), err=err, nl=nl)


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Reads back as `value`; a text is taken for JSON already."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, indent=indent, ensure_ascii=False)
    click.echo(printable_json(text))
