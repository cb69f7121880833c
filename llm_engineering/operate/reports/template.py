"""The pages' templates: one style, everything inside the page, and everything from outside escaped."""

from pathlib import Path

FOLDER = Path(__file__).parent


def render_template(name: str, /, *, filters: dict, **values: object) -> str:
    """HTML of the template `name` beside this module. A value the template names and nobody gives is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= filters
    return page.get_template(name).render(**values)
