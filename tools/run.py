"""`poe run-etl`, `poe run-features` and their sisters: run one pipeline with one config.

Exit code 0: green. 1: something failed, and says what. 2: the config, a setting or the command line is wrong, and
nothing was started. 130: stopped with Ctrl-C.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from pydantic import BaseModel

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.domain.runs import RunRecord
from llm_engineering.operate.configs import load_config
from llm_engineering.operate.pipelines import PIPELINES, Pipeline, Switches
from tools.terminal import plain, say

if TYPE_CHECKING:
    from rich.console import Console

STOPPED = 130  # what a shell gives for Ctrl-C


def command_of(pipeline: Pipeline) -> click.Command:
    """`python -m tools.run PIPELINE`, with the options that the pipeline understands and no others."""
    switches = [
        click.Option([switch.option, switch.name], is_flag=True, help=switch.help) for switch in pipeline.switches
    ]
    options = [
        click.Option(["--config"], type=click.Path(path_type=Path), help=f"Default: configs/{pipeline.name}.yaml"),
        click.Option(["--dry-run"], is_flag=True, help="Check the config and say what would happen; write nothing."),
        *switches,
        click.Option(["--debug"], is_flag=True, help="Show ZenML's own messages, and the traceback of an error."),
    ]

    def run_it(config: Path | None, dry_run: bool, debug: bool, **given: bool) -> None:
        values = {switch.name: switch.default != given[switch.name] for switch in pipeline.switches}
        try:
            parsed = load_config(pipeline.name, pipeline.config, config)
            if dry_run:
                show_plan(pipeline, parsed, values)
            else:
                sys.exit(run_and_show(pipeline, parsed, values, debug=debug).exit_code)
        except LLMTwinError as error:
            if debug:
                raise
            say(error, err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)

    return click.Command(pipeline.name, callback=run_it, params=list(options), help=pipeline.help + ".")


run = click.Group("run", commands={one.name: command_of(one) for one in PIPELINES}, help="Run a pipeline.")


def show_plan(pipeline: Pipeline, config: BaseModel, switches: Switches) -> None:
    """What a run would do. Raises StoreUnavailable when a store that is there cannot be read."""
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.domain.text import redacted_url
    from llm_engineering.operate.plans import store_exists

    say(f"{pipeline.name}: the config is fine; nothing was asked and nothing was written")
    with open_platform() as platform:
        urls = {"warehouse": platform.settings.warehouse_url, "vectors": platform.settings.vectors_url}
        for store in pipeline.stores:
            if url := urls.get(store):
                say(f"{store:9} {redacted_url(url)}{'' if store_exists(url) else '  (will be created)'}")
        for line in pipeline.plan(platform, config, switches):
            say(line)


def check_stores(pipeline: Pipeline) -> None:
    """What is wrong with a setting or a store is said now, once, and not by every step.

    Raises ConfigError or StoreUnavailable.
    """
    from llm_engineering.bootstrap import open_platform

    with open_platform() as platform:
        for store in pipeline.stores:
            getattr(platform, store)


class Ended(NamedTuple):
    exit_code: int
    record: RunRecord


def run_and_show(
    pipeline: Pipeline, config: BaseModel, switches: Switches, *, debug: bool = False, console: "Console | None" = None
) -> Ended:
    """Run it, show how it goes and what came of it."""
    from rich.console import Console

    from tools.orchestrator import start
    from tools.progress import live, show_record
    from tools.stopping import stop_on_signals

    check_stores(pipeline)
    console, errors = console or Console(highlight=False), Console(stderr=True, highlight=False)
    with stop_on_signals() as stopped, live(console):
        finished = start(pipeline.name, config, switches, debug=debug)
        was_stopped = stopped()
    show_record(console, finished.record)
    for part, reason in finished.red.items():
        errors.print(f"[bold red]{plain(part)}[/]: {plain(reason.splitlines()[0])}", soft_wrap=True)
    colour = "[bold red]red[/]" if finished.red else "[bold green]green[/]"
    console.print(f"{colour}  {finished.name}  (poe dashboard shows the run and its report)", soft_wrap=True)
    return Ended(STOPPED if was_stopped else 1 if finished.red else 0, finished.record)


if __name__ == "__main__":
    run()
