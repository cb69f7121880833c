"""`poe run-etl`, `poe run-features`, `poe run-end-to-end`: run one pipeline with one config.

Exit code 0: green. 1: something failed, and says what. 2: the config, a setting or the command line is wrong, and
nothing was started. 130: stopped with Ctrl-C.
"""

import sys
from pathlib import Path
from typing import Any

import click

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from tools.configs import CONFIGS, load_config

STOPPED = 130  # what a shell gives for Ctrl-C

# Which of the switches a pipeline understands; the names are the pipelines' parameters.
UNDERSTANDS = {
    "digital_data_etl": ("revalidate", "retry_failed"),
    "feature_engineering": ("rebuild",),
    "end_to_end_data": ("revalidate", "retry_failed", "rebuild"),
    "evaluate_retrieval": (),
}


@click.command()
@click.argument("pipeline", type=click.Choice(sorted(CONFIGS)))
@click.option("--config", type=click.Path(path_type=Path), help="Default: configs/PIPELINE.yaml")
@click.option("--no-cache", is_flag=True, help="Ask for every link in full again, even where nothing changed.")
@click.option("--dry-run", is_flag=True, help="Check the config and say what would happen; write nothing.")
@click.option("--rebuild", is_flag=True, help="Build the whole index again beside the live one, then swap.")
@click.option("--retry-failed", is_flag=True, help="Also ask for the links that were given up (dead letters).")
@click.option("--debug", is_flag=True, help="Show ZenML's own messages, and the traceback of an error.")
def run(
    pipeline: str, config: Path | None, no_cache: bool, dry_run: bool, rebuild: bool, retry_failed: bool, debug: bool
) -> None:
    """Run PIPELINE with one config."""
    try:
        switches = _switches(pipeline, revalidate=not no_cache, rebuild=rebuild, retry_failed=retry_failed)
        parsed = load_config(pipeline, config)
        if dry_run:
            from tools.plan import show_plan

            show_plan(pipeline, parsed, **switches)
        else:
            sys.exit(run_and_show(pipeline, parsed, switches, debug=debug))
    except LLMTwinError as error:
        if debug:
            raise
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _switches(pipeline: str, **given: bool) -> dict[str, bool]:
    """Raises ConfigError for a switch that the pipeline has no use for."""
    for name in ("rebuild", "retry_failed"):
        if given[name] and name not in UNDERSTANDS[pipeline]:
            raise ConfigError(f"--{name.replace('_', '-')} means nothing to {pipeline}")
    return {name: given[name] for name in UNDERSTANDS[pipeline]}


def check_stores(pipeline: str) -> None:
    """What is wrong with a setting or a store is said now, once, and not by every step.

    Raises ConfigError or StoreUnavailable.
    """
    from llm_engineering.bootstrap import open_platform

    with open_platform() as twin:
        _ = twin.warehouse
        if "rebuild" in UNDERSTANDS[pipeline]:
            _ = twin.vectors


def run_and_show(pipeline: str, config: Any, switches: dict[str, bool], *, debug: bool = False) -> int:
    """Run it, show how it goes and what came of it; the exit code."""
    from rich.console import Console

    from tools.orchestrator import start
    from tools.progress import live, plain, show_record
    from tools.stopping import stop_on_signals

    check_stores(pipeline)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    with stop_on_signals() as stopped, live(console):
        finished = start(pipeline, config, switches, debug=debug)
        was_stopped = stopped()
    show_record(console, finished.record)
    for what, why in finished.red.items():
        errors.print(f"[bold red]{plain(what)}[/]: {plain(why.splitlines()[0])}", soft_wrap=True)
    colour = "[bold red]red[/]" if finished.red else "[bold green]green[/]"
    console.print(f"{colour}  {finished.name}  (poe dashboard shows the run and its report)", soft_wrap=True)
    if was_stopped:
        return STOPPED
    return 1 if finished.red else 0


if __name__ == "__main__":
    run()
