"""What a run does. Every default of the feature room is written here, once."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field, JsonValue, field_validator, model_validator

from llm_engineering.domain.chunks import ChunkingSpec
from llm_engineering.domain.noun import Noun


class LinkSpec(Noun):
    """One line under `links`: a plain link, `source: handle, feed, folder, …`, or `source: {address: …, option: …}`."""

    source: str | None = None  # None: whoever owns the link
    address: str = Field(min_length=1)
    options: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, line: Any) -> Any:
        if isinstance(line, str):
            return {"address": line}
        if isinstance(line, Mapping) and "address" not in line:
            if len(line) != 1:
                raise ValueError(f"one source per line, not {', '.join(map(str, line))}")
            [(source, value)] = line.items()
            if isinstance(value, str):
                return {"source": source, "address": value}
            if isinstance(value, Mapping) and "address" in value:
                options = {key: option for key, option in value.items() if key != "address"}
                return {"source": source, "address": value["address"], "options": options}
            raise ValueError(f"write `- {source}: ADDRESS` or `- {source}: {{address: ADDRESS, …}}`")
        return line


class AuthorConfig(Noun):
    name: str = Field(min_length=1)
    links: tuple[LinkSpec, ...] = Field(min_length=1)


class FetchConfig(Noun):
    """Politeness and limits of the fetcher. Times in seconds, sizes in bytes."""

    user_agent: str = "llm-twin/0.1 (+https://github.com/llm-twin/llm-twin)"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 32  # links of one author at a time
    per_host: Annotated[int, Field(ge=1, le=64)] = 2  # requests to one host at a time
    delay: Annotated[float, Field(ge=0)] = 0.0  # from one request to a host to the next; robots.txt may ask for more
    connect_timeout: Annotated[float, Field(gt=0)] = 10.0
    read_timeout: Annotated[float, Field(gt=0)] = 20.0
    total_timeout: Annotated[float, Field(gt=0)] = 60.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5
    max_bytes: Annotated[int, Field(gt=0)] = 10_000_000  # decompressed; half of it compressed
    allow_hosts: tuple[str, ...] = ()  # may resolve to private or loopback addresses; "host" or "host:port"
    own_hosts: tuple[str, ...] = ()  # sites of your own: robots.txt is not asked


class GitConfig(Noun):
    """Limits on one repository. Times in seconds, sizes in bytes."""

    timeout: Annotated[float, Field(gt=0)] = 120.0
    max_repository_bytes: Annotated[int, Field(gt=0)] = 500_000_000
    max_files: Annotated[int, Field(gt=0)] = 250_000  # and folders
    max_memory: Annotated[int, Field(gt=0)] = 1_000_000_000  # of each process of git
    max_file_bytes: Annotated[int, Field(gt=0)] = 500_000


class BudgetConfig(Noun):
    """What parsing one page, feed or document may cost. What takes more is killed, reported, and stops nothing else."""

    seconds: Annotated[float, Field(gt=0)] = 3.0  # of a processor
    seconds_per_megabyte: Annotated[float, Field(ge=0)] = 10.0  # more, for each million characters
    memory_bytes: Annotated[int, Field(ge=500_000_000)] = 2_000_000_000  # addresses of one child; it takes 0.1e9 itself
    processes: Annotated[int, Field(ge=0, le=64)] = 2  # children that parse at the same time; 0: none, and no budget


class EtlConfig(Noun):
    """configs/digital_data_etl.yaml"""

    authors: tuple[AuthorConfig, ...] = Field(min_length=1)
    min_success_rate: Annotated[float, Field(ge=0, le=1)] = 0.5  # of an author's links; fewer read is a red step
    browser: bool = True  # may the browser rung be used, where there is one
    fetch: FetchConfig = FetchConfig()
    git: GitConfig = GitConfig()
    budget: BudgetConfig = BudgetConfig()

    @field_validator("authors")
    @classmethod
    def _names_differ(cls, authors: tuple[AuthorConfig, ...]) -> tuple[AuthorConfig, ...]:
        names = [" ".join(author.name.split()).casefold() for author in authors]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed twice: {', '.join(twice)}; put all links of an author in one place")
        return authors

    @field_validator("authors")
    @classmethod
    def _sources_exist_and_links_have_one_author(cls, authors: tuple[AuthorConfig, ...]) -> tuple[AuthorConfig, ...]:
        from llm_engineering.features.sources import SOURCES, link_identity

        known = [source.name for source in SOURCES]
        owners: dict[tuple[str, str], str] = {}
        for author, link in [(one, link) for one in authors for link in one.links]:
            if link.source and link.source not in known:
                close = get_close_matches(link.source, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise ValueError(f"{author.name}: no source is called {link.source}; {hint}known: {', '.join(known)}")
            owner = owners.setdefault(link_identity(link.source, link.address), author.name)
            if owner != author.name:
                raise ValueError(f"{link.address} is listed under {owner} and {author.name}; keep one of them")
        return authors


class FeatureConfig(Noun):
    """configs/feature_engineering.yaml"""

    chunking: ChunkingSpec = ChunkingSpec()
    min_success_rate: Annotated[float, Field(ge=0, le=1)] = 0.5  # of the documents; fewer in the index is a red step
    budget: BudgetConfig = BudgetConfig()
    buffer_chunks: Annotated[int, Field(ge=1)] = 1024  # embedded together, sorted by length; bounds the memory


class EndToEndConfig(Noun):
    """configs/end_to_end_data.yaml"""

    etl: EtlConfig
    features: FeatureConfig = FeatureConfig()
