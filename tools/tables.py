"""`poe tables`: write what docs/run.md and CODEOWNERS say of the pipelines from their table. A test compares them."""

from collections.abc import Iterable
from pathlib import Path

import click

from llm_engineering.operate.pipelines import PIPELINES, Pipeline
from tools.terminal import say

BEGIN, END = "pipelines, written by `poe tables`", "end of pipelines"


def docs_table(pipelines: Iterable[Pipeline]) -> str:
    """Markdown."""
    rows = ["| command | pipeline and config | what it does | reads | writes | owner |", "|---|---|---|---|---|---|"]
    for one in pipelines:
        reads, writes = (", ".join(stores) or "nothing" for stores in (one.reads, one.writes))
        name = f"`{one.name}`, `configs/{one.name}.yaml`"
        rows.append(f"| `poe {one.task}` | {name} | {one.help} | {reads} | {writes} | {one.owner} |")
    return "\n".join(rows)


def owner_lines(pipelines: Iterable[Pipeline], root: Path) -> str:
    """A team owns its pipeline's wiring, steps (which may be another pipeline's) and config."""
    return "\n".join(
        f"/{place:36} {one.owner}"
        for one in pipelines
        for place in (f"pipelines/{one.name}.py", f"steps/{one.name}.py", f"configs/{one.name}.yaml")
        if (root / place).exists()
    )


def with_block(text: str, block: str) -> str:
    """`text` with what stands between the lines that hold BEGIN and END replaced. Raises ValueError without them."""
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if BEGIN in line), None)
    end = next((i for i, line in enumerate(lines) if END in line), None)
    if begin is None or end is None:
        raise ValueError(f"no lines that say {BEGIN!r} and {END!r}")
    return "\n".join([*lines[: begin + 1], *block.splitlines(), *lines[end:]]) + "\n"


def written(root: Path) -> dict[Path, str]:
    """Each file that holds a block, as it should be."""
    blocks = {root / "docs" / "run.md": docs_table(PIPELINES), root / "CODEOWNERS": owner_lines(PIPELINES, root)}
    return {path: with_block(path.read_text(encoding="utf-8"), block) for path, block in blocks.items()}


@click.command()
def tables() -> None:
    """Write docs/run.md and CODEOWNERS from the table of pipelines."""
    for path, text in written(Path()).items():
        path.write_text(text, encoding="utf-8")
        say(f"{path} is written")


if __name__ == "__main__":
    tables()
