"""`poe eval-retrieval`: how good retrieval is on this corpus, in every setting, and whether it got worse.

Exit code 0: measured, and not worse than the accepted run. 1: worse, nothing indexed, or a store cannot be read.
2: the config, a setting or the command line is wrong.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.domain.statistics import Estimate
from llm_engineering.inference.evaluation.comparison import Comparison
from llm_engineering.inference.evaluation.measures import MEASURES
from llm_engineering.inference.evaluation.report import RetrievalReport

if TYPE_CHECKING:
    from rich.table import Table


@click.command(name="eval-retrieval")
@click.option("--config", type=click.Path(path_type=Path), help="Default: configs/evaluate_retrieval.yaml")
@click.option("--accept", "accepting", is_flag=True, help="Later runs are compared with this one.")
@click.option("--json", "target", metavar="PATH|-", help="Also write the report as JSON; - for the standard output.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write the report as a page.")
def main(config: Path | None, accepting: bool, target: str | None, html: Path | None) -> None:
    """Measure every retrieval setting on questions made from what is indexed."""
    from llm_engineering.bootstrap import open_platform
    from steps.retrieval_evaluation import accept, evaluate_on, judge
    from steps.retrieval_page import render
    from tools.configs import load_config

    try:
        parsed = load_config("evaluate_retrieval", config)
        with open_platform() as platform:
            report = evaluate_on(platform, parsed, lambda line: click.echo(line, err=True))
            comparison = judge(report, parsed, platform.settings)
            if html:
                html.write_text(render(report, comparison), encoding="utf-8")
            tell(report, comparison, target)
            if accepting:
                click.echo(f"accepted: {accept(report, platform.settings)}", err=True)
    except LLMTwinError as error:
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    sys.exit(1 if comparison.red and not accepting else 0)


def tell(report: RetrievalReport, comparison: Comparison, target: str | None) -> None:
    """Show it, and write it where it was asked for."""
    from rich.console import Console

    console = Console(stderr=target == "-", highlight=False)
    gain = report.best_gain
    console.print(table(report))
    console.print(
        f"chosen on one half of the documents: {report.best}; on the other half MRR@10 {gain.value:+.1%} "
        f"against dense \\[{gain.low:+.1%}, {gain.high:+.1%}]"
    )
    console.print(comparison.red or comparison.note, style="bold red" if comparison.red else None)
    if target == "-":
        click.echo(report.model_dump_json(indent=1))
    elif target:
        Path(target).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def table(report: RetrievalReport) -> "Table":
    """On all questions, without a filter and filtered by the author; the halves and slices are in the JSON."""
    from rich.table import Table

    asked = ", ".join(f"{count} {way}" for way, count in report.questions.items())
    title = f"golden set {report.golden}: {asked}; {report.chunks} passages of {report.documents} documents"
    out = Table(title=title, title_justify="left")
    for column in ("setting", *MEASURES, "mrr@10 over dense", "mrr@10, author known"):
        out.add_column(column, justify="left" if column == "setting" else "right")
    for name in report.settings:
        scores, alone = report.of(name, half="all"), report.of(name, half="all", filtered=True)
        cells = [f"{scores.measures[measure].value:.3f}" for measure in MEASURES]
        out.add_row(name, *cells, _with_interval(scores.gain), f"{alone.measures['mrr@10'].value:.3f}")
    return out


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} \\[{estimate.low:+.3f}, {estimate.high:+.3f}]"


if __name__ == "__main__":
    main()
