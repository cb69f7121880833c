"""`make quickstart`: the whole way once, on the project's own sample. No network, key, GPU, browser or model hub.

With `--crawl-only` nothing is embedded, as where there is no torch; `poe run-features` goes on from there.
"""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.features.config import AuthorConfig, EndToEndConfig, EtlConfig, FetchConfig, LinkSpec
from llm_engineering.infrastructure.child_processes import run_child
from llm_engineering.infrastructure.files import make_folder, make_private
from llm_engineering.operate.pipelines import pipeline_named
from llm_engineering.settings import load_settings
from tools.sample_site import PORT, SAMPLE, sample_site
from tools.terminal import say

BLOGGER, NOTE_TAKER = "Mira Halloran", "Jonas Reyes"
PASSAGES = 3
QUESTION = "Why is my processor not faster with more cores?"


@click.command()
@click.option("--question", default=QUESTION, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Of the sample blog.")
@click.option("--crawl-only", is_flag=True, help="Only fill the warehouse.")
@click.option("--debug", is_flag=True, help="Show ZenML's own messages, and the traceback of an error.")
def quickstart(question: str, port: int, crawl_only: bool, debug: bool) -> None:
    """Crawl the sample, build the index, ask one question."""
    try:
        sys.exit(crawl(port, debug=debug) if crawl_only else walk(question, port, debug=debug))
    except LLMTwinError as error:
        if debug:
            raise
        say(error, err=True)
        sys.exit(1)


def walk(question: str, port: int, *, debug: bool = False) -> int:
    """The exit code. A second walk finds everything unchanged."""
    from tools.run import run_and_show

    with sample(port) as config:
        switches = {"revalidate": True, "retry_failed": False, "rebuild": False}
        if code := run_and_show(pipeline_named("end_to_end_data"), config, switches, debug=debug).exit_code:
            return code
    say(f"\n2. Asking: {question}\n")
    show_passages(question)
    say(NEXT.format(blogger=BLOGGER, taker=NOTE_TAKER))
    return 0


def crawl(port: int, *, debug: bool = False) -> int:
    """The exit code."""
    from tools.run import run_and_show

    with sample(port) as config:
        switches = {"revalidate": True, "retry_failed": False}
        return run_and_show(pipeline_named("digital_data_etl"), config.etl, switches, debug=debug).exit_code


@contextmanager
def sample(port: int) -> Generator[EndToEndConfig]:
    """The site is served until the end."""
    home = load_settings().home
    with sample_site(port) as site:
        say(f"1. Reading {BLOGGER}'s blog at {site}, a repository and {NOTE_TAKER}'s notes into {home}")
        if not site.endswith(f":{port}"):
            say(f"   (port {port} is taken, so these links are new ones to the warehouse)")
        yield sample_config(site, make_repository(home))


def show_passages(question: str) -> None:
    from rich.console import Console

    from llm_engineering.bootstrap import open_platform
    from tools.ask import print_passages, search

    with open_platform() as twin:
        print_passages(search(question, twin, limit=PASSAGES), Console(highlight=False))


def sample_config(site: str, repository: Path | None) -> EndToEndConfig:
    """The sitemap names every page; some of them are named again, with tracking links, and are still one document."""
    again = f"{site}/posts/why-cpus-wait.html?utm_source=newsletter&utm_medium=email"
    links = [
        LinkSpec(source="web_article", address=f"{site}/sitemap.xml"),
        LinkSpec(source="web_article", address=f"{site}/feed.xml"),
        LinkSpec(address=again),
    ]
    if repository:
        links.append(LinkSpec(source="github", address=repository.as_uri()))
    notes = LinkSpec(source="local_files", address=str(SAMPLE / "notes"))
    host = site.removeprefix("http://")
    return EndToEndConfig(
        etl=EtlConfig(
            authors=(
                AuthorConfig(name=BLOGGER, links=tuple(links)),
                AuthorConfig(name=NOTE_TAKER, links=(notes,)),
            ),
            browser=False,
            fetch=FetchConfig(allow_hosts=(host,), per_host=8),
        )
    )


def make_repository(home: Path) -> Path | None:
    """A git repository with one commit, the same on every machine; None where there is no git."""
    git = shutil.which("git")
    if git is None:
        say("   (git is not installed, so the repository is left out)")
        return None
    folder = home.absolute() / "sample" / "tokenrate"
    if not (folder / ".git").exists():
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder.parent)
        shutil.copytree(SAMPLE / "repository", folder, ignore=shutil.ignore_patterns("__pycache__"))
        who = {"NAME": BLOGGER, "EMAIL": "mira@example.org", "DATE": "2026-04-06T22:00:00+00:00"}
        people = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "An upper limit"]):
            done = run_child([git, "-C", folder, *command], environment=people | nobody)
            if done.code:
                raise LLMTwinError(f"git {command[0]} fails in {folder}: {done.errors.strip()}")
        make_private(folder)
    return folder


NEXT = """
What to do next
  poe ask "your question"                ask again; everything is in the warehouse and in the index now
  poe dashboard                          the run, its steps and its report
  python -m tools.sample_site            serve the sample blog, so that its links open
  configs/digital_data_etl.yaml          put your own authors there, then: poe run-etl && poe run-features
  poe forget --author "{blogger}"    remove the sample again (and: poe forget --author "{taker}")
(make TASK instead of poe TASK where Poetry is not installed; options go into ARGS="…")"""


if __name__ == "__main__":
    quickstart()
