"""`poe crawl-status`: what happened to every link, and what to do about the dead letters and the unindexed documents.

Exit code 0: printed. 1: the store cannot be read. 2: a setting or the command line is wrong.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import click

from llm_engineering.domain.documents import Author
from llm_engineering.domain.errors import ConfigError, LLMTwinError
from llm_engineering.domain.ledger import DocumentFailure, LedgerEntry, Outcome, Reason
from llm_engineering.domain.ports import Ledger
from llm_engineering.features.crawl.coordinator import FIXABLE_HERE, RETRY_DEAD_AFTER
from tools.terminal import plain, say, say_json

MAX_ROWS = 200  # rows of the table; --json has all
LOST = (Outcome.FAILED, Outcome.DEAD)

ADVICE = {
    Reason.DNS: "check the host's spelling and your network",
    Reason.CONNECT: "the site is down or refuses connections; the next run asks again",
    Reason.TIMEOUT: "the site is slow; the next run asks again, or raise fetch.read_timeout and fetch.total_timeout",
    Reason.TLS: "the site's certificate is not valid; tell its owner",
    Reason.HTTP_ERROR: "the site's error; open the link to see whether it works for you",
    Reason.RATE_LIMITED: "run later, or raise fetch.delay",
    Reason.NOT_FOUND: "the page does not exist; correct or remove the link",
    Reason.REDIRECT_LOOP: "open the link and name the address where it ends",
    Reason.BLOCKED_ADDRESS: "a private address; if it is yours, add the host to fetch.allow_hosts",
    Reason.ROBOTS: "robots.txt forbids it; if the site is yours, add the host to fetch.own_hosts",
    Reason.TOO_LARGE: "raise fetch.max_bytes, git.max_repository_bytes or the option of the line, if you want it all",
    Reason.WRONG_TYPE: "no text behind this link; remove it",
    Reason.BAD_ENCODING: "the page's bytes are no text; tell its owner, or save it and use - local_files",
    Reason.EMPTY: "no text there; open it, and correct or remove the link",
    Reason.NEEDS_JAVASCRIPT: "needs the browser: set browser: true, and see `poe doctor`",
    Reason.BOT_WALL: "the site keeps robots out; name the author's feed or export, or save the page for - local_files",
    Reason.PAYWALL: "behind a paywall; use the author's own export with - local_files",
    Reason.LOGIN: "behind a login; use the service's data export",
    Reason.CONSENT: "behind a consent page; save the page and use - local_files",
    Reason.BAD_FEED: "the feed or sitemap is damaged; name another one, or the links themselves",
    Reason.BAD_ARCHIVE: "download the export again, and name the zip as it came",
    Reason.GIT: "git cannot read it; check the address and that the repository is public",
    Reason.BROWSER: "no browser, or it failed; see `poe doctor`",
    Reason.MISSING_CREDENTIALS: "set the TWIN_ variables the message names, or import the export",
    Reason.MISSING_FILE: "correct the path; it is relative to where you run",
    Reason.LOADER: "see the message; the loader's own documentation says what it needs",
    Reason.BAD_LINK: "correct this line of the config",
    Reason.UNREADABLE: "open it; replace it by a copy that is whole and without a password, or remove it",
    Reason.OVER_BUDGET: "too large, or made to stop a parser; if you trust it, raise the budget in the config",
    Reason.NO_SOURCE: "a source was removed or renamed: bring it back, or crawl the link again",
    Reason.INTERNAL_ERROR: "a fault of the program or of a library: the log of the run has the traceback",
}


@click.command()
@click.option("--author", help="Of this author only.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every dead letter.")
def crawl_status(author: str | None, as_json: bool) -> None:
    """What happened to every link, and the dead letters. `poe run-etl --retry-failed` asks for those again."""
    from llm_engineering.bootstrap import open_platform

    try:
        with open_platform() as platform:
            ledger, author_id = platform.ledger, Author(name=author).id if author else None
            counts = outcomes(ledger, author_id)
            if author and not counts:
                raise ConfigError(f"no link of {author!r} is known; known: {', '.join(outcomes(ledger)) or 'nobody'}")
            letters, failures = dead_letters(ledger, author_id), ledger.document_failures(author_id=author_id)
            if as_json:
                _as_json(counts, letters, failures)
            else:
                _as_table(counts, letters)
                _list_documents(list(failures))
    except LLMTwinError as error:
        say(error, err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def outcomes(ledger: Ledger, author_id: str | None = None) -> dict[str, Counter[Outcome]]:
    """Author name -> how many links ended how."""
    counts: dict[str, Counter[Outcome]] = {}
    for entry in ledger.entries(author_id=author_id):
        counts.setdefault(entry.author_name, Counter())[entry.outcome] += 1
    return dict(sorted(counts.items()))


def dead_letters(ledger: Ledger, author_id: str | None = None) -> Iterator[LedgerEntry]:
    """Every link whose last attempt failed, whether the next run asks again or not."""
    return ledger.entries(author_id=author_id, outcome=LOST)


def advice(entry: LedgerEntry) -> str:
    if entry.reason is None:
        return ""
    again = "" if entry.outcome == Outcome.FAILED or entry.reason in FIXABLE_HERE else "; then --retry-failed"
    return ADVICE[entry.reason] + again


def _as_json(
    counts: dict[str, Counter[Outcome]], letters: Iterator[LedgerEntry], failures: Iterator[DocumentFailure]
) -> None:
    kept = ("link", "url", "author_name", "source", "outcome", "reason", "detail", "attempts")
    document = {
        "authors": [
            {"author": name, "links": count.total(), **{outcome.value: count[outcome] for outcome in Outcome}}
            for name, count in counts.items()
        ],
        "dead_letters": [
            {
                **{key: getattr(entry, key) for key in kept},
                "last_attempt": entry.last_attempt.isoformat(),
                "last_success": entry.last_success.isoformat() if entry.last_success else None,
                "advice": advice(entry),
            }
            for entry in letters
        ],
        "unindexed_documents": [
            one.model_dump(mode="json", include={"link", "author_name", "source", "reason", "detail", "failed_at"})
            | {"advice": ADVICE[one.reason]}
            for one in failures
        ],
    }
    say_json(document, indent=2)


def _as_table(counts: dict[str, Counter[Outcome]], letters: Iterator[LedgerEntry]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not counts:
        console.print("Nothing was crawled yet. `poe run-etl` does.")
        return
    table = Table("author", "links", *(outcome.value for outcome in Outcome), title="Links by their last outcome")
    for name, count in counts.items():
        table.add_row(plain(name), str(count.total()), *(str(count[outcome]) for outcome in Outcome))
    console.print(table)
    lost = sum(count[outcome] for count in counts.values() for outcome in LOST)
    if not lost:
        console.print("No dead letters.")
        return
    console.print(f"\n[bold]Dead letters: {lost}[/]")
    days = RETRY_DEAD_AFTER.days
    console.print(f"Every run asks `failed` ones again; `dead` ones --retry-failed does, or a run {days} days later.")
    for _, entry in zip(range(MAX_ROWS), letters, strict=False):
        why = f"{entry.reason}: {entry.detail}" if entry.detail else str(entry.reason)
        console.print(f"\n[bold]{plain(entry.link)}[/]", soft_wrap=True)
        tries = (
            f"{entry.attempts} attempt{'s'[: entry.attempts != 1]}, the last {entry.last_attempt:%Y-%m-%d %H:%M} UTC"
        )
        console.print(f"  {entry.outcome} ({plain(why)}); {tries}", soft_wrap=True)
        console.print(f"  [dim]{plain(advice(entry))}[/]", soft_wrap=True)
    if lost > MAX_ROWS:
        console.print(f"\n… and {lost - MAX_ROWS} more; --json lists all.")


def _list_documents(failures: list[DocumentFailure]) -> None:
    """Crawled, and not in the index."""
    from rich.console import Console

    if not failures:
        return
    console = Console(highlight=False)
    console.print(f"\n[bold]Documents that are not in the index: {len(failures)}[/]")
    console.print("Tried again when they change, when the program does, or with `poe run-features --rebuild`.")
    for failure in failures[:MAX_ROWS]:
        console.print(f"\n[bold]{plain(failure.link)}[/]", soft_wrap=True)
        console.print(f"  {failure.reason} ({plain(failure.detail)})", soft_wrap=True)
        console.print(f"  [dim]{plain(ADVICE[failure.reason])}[/]", soft_wrap=True)
    if (more := len(failures) - MAX_ROWS) > 0:
        console.print(f"\n… and {more} more; --json lists all.")


if __name__ == "__main__":
    crawl_status()
