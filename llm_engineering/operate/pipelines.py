"""The one table of the pipelines: command line, dry run, progress, report, docs and owners are all read from it.

A new pipeline is a row here and its own modules: `configs/NAME.yaml`, `pipelines/NAME.py`, `steps/NAME.py`, a config
model in its room, and a function that says for `--dry-run` what would happen. Then `poe tables` writes the row into the
docs and into CODEOWNERS. See docs/add-a-pipeline.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from llm_engineering.bootstrap import Platform
from llm_engineering.domain.runs import RunRecord
from llm_engineering.features.config import EndToEndConfig, EtlConfig, FeatureConfig
from llm_engineering.inference.evaluation.config import RetrievalEvaluationConfig
from llm_engineering.operate import plans
from llm_engineering.operate.plans import Switches
from llm_engineering.operate.reports import page, retrieval_page


class Store(StrEnum):
    """Where pipelines meet. The values are the names of `Platform`'s attributes."""

    WAREHOUSE = "warehouse"
    VECTORS = "vectors"
    REGISTRY = "registry"


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A yes or no for one run: a parameter of the pipeline, and an option of the command line that turns it over."""

    name: str
    option: str
    help: str
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """`plan` says for a dry run what would happen; it writes nothing. `owner` is a team of CODEOWNERS."""

    name: str
    task: str  # poe TASK
    help: str
    config: type[BaseModel]
    plan: Callable[[Platform, Any, Switches], Iterator[str]]
    reads: tuple[Store, ...] = ()
    writes: tuple[Store, ...] = ()
    owner: str
    switches: tuple[Switch, ...] = ()
    page: Callable[[str, RunRecord], str] = page.render
    tool: str = ""  # the module of `tools` that runs it, where it does more than `tools.run`

    @property
    def command(self) -> str:
        """What `python -m` starts."""
        return f"tools.{self.tool}" if self.tool else f"tools.run {self.name}"

    @property
    def stores(self) -> tuple[Store, ...]:
        """All that must be there before a run begins."""
        return tuple(dict.fromkeys((*self.reads, *self.writes)))


REVALIDATE = Switch(
    name="revalidate",
    option="--no-cache",
    help="Ask for every link in full again, even where nothing changed.",
    default=True,
)
RETRY_FAILED = Switch(
    name="retry_failed",
    option="--retry-failed",
    help="Also ask for the links that were given up (dead letters).",
)
REBUILD = Switch(
    name="rebuild",
    option="--rebuild",
    help="Build the whole index again beside the live one, then swap.",
)

ALLOW_EMPTY = Switch(
    name="allow_empty",
    option="--allow-empty",
    help="Let the index lose most of its documents, or follow another warehouse than the one it was filled from.",
)

PIPELINES = (
    Pipeline(
        name="digital_data_etl",
        task="run-etl",
        help="Crawl the authors of the config into the warehouse",
        config=EtlConfig,
        plan=plans.crawl,
        reads=(Store.WAREHOUSE,),
        writes=(Store.WAREHOUSE,),
        owner="@llm-twin/features",
        switches=(REVALIDATE, RETRY_FAILED),
    ),
    Pipeline(
        name="feature_engineering",
        task="run-features",
        help="Clean, cut, embed and load what changed in the warehouse",
        config=FeatureConfig,
        plan=plans.features,
        reads=(Store.WAREHOUSE, Store.VECTORS),
        writes=(Store.VECTORS,),
        owner="@llm-twin/features",
        switches=(REBUILD, ALLOW_EMPTY),
    ),
    Pipeline(
        name="end_to_end_data",
        task="run-end-to-end",
        help="Both, one after the other",
        config=EndToEndConfig,
        plan=plans.end_to_end,
        reads=(Store.WAREHOUSE, Store.VECTORS),
        writes=(Store.WAREHOUSE, Store.VECTORS),
        owner="@llm-twin/features",
        switches=(REVALIDATE, RETRY_FAILED, REBUILD, ALLOW_EMPTY),
    ),
    Pipeline(
        name="evaluate_retrieval",
        task="eval-retrieval",
        help="Measure every retrieval setting; --accept keeps the run as the measure",
        tool="eval_retrieval",
        config=RetrievalEvaluationConfig,
        plan=plans.evaluation,
        reads=(Store.VECTORS,),
        owner="@llm-twin/inference",
        page=retrieval_page.render,
    ),
)


def pipeline_named(name: str) -> Pipeline:
    """Raises LookupError."""
    for pipeline in PIPELINES:
        if pipeline.name == name:
            return pipeline
    raise LookupError(f"no pipeline is called {name}: {', '.join(one.name for one in PIPELINES)}")
