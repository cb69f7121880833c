"""The YAML above a Markdown text: its title and its date. Nothing of it is built, so nothing of it can explode."""

import re
from datetime import UTC, date, datetime
from typing import NamedTuple

from llm_engineering.domain.errors import CleaningError
from llm_engineering.features.cleaning.page import parse_date

LONGEST = 50_000  # characters; a longer text between two rules is no front matter, and YAML takes its time
DEEPEST = 20  # of what is nested; real front matter has three

_DATES = ("date", "published", "published_at", "created")
_BETWEEN_RULES = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:^|\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class FrontMatter(NamedTuple):
    title: str = ""
    published_at: datetime | None = None
    end: int = 0  # where the text begins; 0 where there is no front matter


def front_matter(text: str) -> FrontMatter:
    """Empty when what stands between the two rules at the beginning is no YAML mapping: then it is text.

    Raises CleaningError for aliases, for merge keys and for what is nested over DEEPEST: a few bytes of these can
    stand for more than any memory.
    """
    found = _BETWEEN_RULES.match(text)
    if not found or len(found[1]) > LONGEST:
        return FrontMatter()
    values = _scalars(found[1])
    if not values:
        return FrontMatter()
    published = next((moment for name in _DATES if (moment := _date(values.get(name)))), None)
    return FrontMatter(" ".join(values.get("title", "").split()), published, found.end())


def _scalars(text: str) -> dict[str, str] | None:
    """What the keys of the mapping say, as it is written; "" for a list, a mapping or null. None for no mapping."""
    import yaml

    try:
        root = _loader_type()(text).get_single_node()
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(root, yaml.MappingNode):
        return None
    null = "tag:yaml.org,2002:null"
    return {
        key.value.lower(): value.value if isinstance(value, yaml.ScalarNode) and value.tag != null else ""
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode)
    }


def _loader_type():
    import yaml

    class Loader(yaml.SafeLoader):
        """Composes nodes, of bounded depth and each written out."""

        depth = 0

        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent) and self.peek_event().anchor in self.anchors:
                raise CleaningError("the front matter holds a YAML alias (*name); write out what it stands for")
            if self.depth >= DEEPEST:
                raise CleaningError(f"the front matter is nested over {DEEPEST} deep; make it flat")
            self.depth += 1
            try:
                node = super().compose_node(parent, index)
            finally:
                self.depth -= 1
            if isinstance(parent, yaml.MappingNode) and index is None and node.tag == "tag:yaml.org,2002:merge":
                raise CleaningError("the front matter holds a YAML merge key (<<); write out what it merges")
            return node

    return Loader


def _date(text: str | None) -> datetime | None:
    """Of a date, a time, or what YAML calls a timestamp. None for everything else, and for what no calendar holds."""
    import yaml

    if not text or len(text) > 64:
        return None
    if moment := parse_date(text):
        return moment
    match = yaml.SafeLoader.timestamp_regexp.match(text.strip())
    if match is None:
        return None
    node = yaml.ScalarNode("tag:yaml.org,2002:timestamp", text.strip())
    try:
        value: date | datetime = yaml.SafeLoader("").construct_yaml_timestamp(node)
        if not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
