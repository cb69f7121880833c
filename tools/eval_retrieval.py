"""`poe eval-retrieval`: how good retrieval is on this corpus, in every setting, and whether it got worse.

Exit code 0: measured, and not worse than the accepted run. 1: worse, nothing indexed, or a store cannot be read.
2: the config, a setting or the command line is wrong. 130: stopped with Ctrl-C.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.domain.statistics import Estimate
from llm_engineering.inference.evaluation.measures import MEASURES
from llm_engineering.inference.evaluation.report import RetrievalReport
from llm_engineering.infrastructure.files import reason_of, write_whole
from tools.terminal import plain, plain_lines, say, say_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@click.command(name="eval-retrieval")
@click.option("--config", type=click.Path(path_type=Path), help="Default: configs/evaluate_retrieval.yaml")
@click.option("--accept", "accepting", is_flag=True, help="Later runs are compared with this one.")
@click.option("--json", "target", metavar="PATH|-", help="Also write the report as JSON; - for the standard output.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write the report as a page.")
@click.option("--debug", is_flag=True, help="Show ZenML's own messages, and the traceback of an error.")
def main(config: Path | None, accepting: bool, target: str | None, html: Path | None, debug: bool) -> None:
    """Measure every retrieval setting on questions made from what is indexed."""
    try:
        sys.exit(evaluate(config, accepting=accepting, target=target, html=html, debug=debug))
    except LLMTwinError as error:
        if debug:
            raise
        say(error, err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def evaluate(config: Path | None, *, accepting: bool, target: str | None, html: Path | None, debug: bool) -> int:
    """Runs the pipeline; the exit code."""
    from rich.console import Console

    from llm_engineering.operate.configs import load_config
    from llm_engineering.operate.pipelines import pipeline_named
    from llm_engineering.operate.reports.retrieval_page import render_report
    from llm_engineering.operate.retrieval_evaluation import accept, accepted_report
    from llm_engineering.settings import load_settings
    from tools.run import run_and_show

    pipeline, settings = pipeline_named("evaluate_retrieval"), load_settings()
    parsed = load_config(pipeline.name, pipeline.config, config)
    if not accepting:
        accepted_report(settings)  # what is wrong with it is said before anything is measured
    console = Console(stderr=target == "-", highlight=False)
    ended = run_and_show(pipeline, parsed, {}, debug=debug, console=console)
    reports = ended.record.of(RetrievalReport)
    if not reports:
        return ended.exit_code
    show(reports[0], console)
    write(reports[0], target)
    if html:
        write_file(html, render_report(reports[0]))
    if accepting:
        say(f"accepted: {accept(reports[0], settings)}", err=True)
        return 0
    return ended.exit_code


def show(report: RetrievalReport, console: "Console") -> None:
    gain = report.best_gain
    console.print(table(report))
    console.print(
        f"chosen on one half of the documents: {plain(report.best)}; on the other half MRR@10 {gain.value:+.1%} "
        f"against dense \\[{gain.low:+.1%}, {gain.high:+.1%}]"
    )
    console.print(plain_lines(report.red or report.note), style="bold red" if report.red else None)


def write(report: RetrievalReport, target: str | None) -> None:
    if target == "-":
        say_json(report.model_dump_json(indent=1))
    elif target:
        write_file(Path(target), report.model_dump_json(indent=1) + "\n")


def write_file(path: Path, text: str) -> None:
    """Whole or not at all. Raises LLMTwinError."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise LLMTwinError(f"{path} cannot be written: {reason_of(error)}") from error


def table(report: RetrievalReport) -> "Table":
    """On all questions, without a filter and filtered by the author; the halves and slices are in the JSON."""
    from rich.table import Table

    questions = ", ".join(f"{count} {way}" for way, count in report.questions.items())
    title = f"golden set {report.golden}: {questions}; {report.chunks} passages of {report.documents} documents"
    out = Table(title=plain(title), title_justify="left")
    for column in ("setting", *MEASURES, "mrr@10 over dense", "mrr@10, author known"):
        out.add_column(column, justify="left" if column == "setting" else "right")
    for name in report.settings:
        scores, alone = report.of(name, half="all"), report.of(name, half="all", filtered=True)
        cells = [f"{scores.measures[measure].value:.3f}" for measure in MEASURES]
        out.add_row(plain(name), *cells, _with_interval(scores.gain), f"{alone.measures['mrr@10'].value:.3f}")
    return out


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} \\[{estimate.low:+.3f}, {estimate.high:+.3f}]"


if __name__ == "__main__":
    main()
