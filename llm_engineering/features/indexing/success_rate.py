"""When too few documents are in the index for a run to look green."""

from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.indexing.failures import OpenFailures

JUDGED_FROM = 4  # documents in the warehouse; of fewer, all may well be empty

_ADVICE = """
The others are searchable. `poe crawl-status` lists every document that is not, and why. They are tried again when they
change, when this program or its libraries do, and with --rebuild."""


def too_few_indexed(report: FeatureReport, failures: OpenFailures, documents: int, min_success_rate: float) -> str:
    """Why the run is red; "" when it is not. Judged by what the index lacks of the warehouse's `documents`, so that
    the next run, which tries nothing again, is no greener. A run that only adds failures is red, too."""
    missing = report.failed + (report.empty if documents >= JUDGED_FROM else 0)
    indexed = max(0, documents - missing)
    if missing and (not indexed or indexed < min_success_rate * documents):
        red = f"{indexed} of {documents} documents are in the index, min_success_rate wants {min_success_rate:.0%}."
    elif failures.newly_failed and not report.documents_indexed:
        red = f"none of the {len(failures.newly_failed)} new or changed documents could be indexed."
    else:
        return ""
    return red + _examples(report, failures) + _ADVICE


def _examples(report: FeatureReport, failures: OpenFailures) -> str:
    """A line for each of the commonest reasons, with a document that `report` lists."""
    listed = [(one.reason, f"{one.link}: {one.detail}") for one in report.failures]
    listed += [(Reason.EMPTY, f"{link}: {why}") for link, why in report.documents_empty.items()]
    example = dict(reversed(listed))
    common = failures.by_reason.most_common(3)
    return "".join(f"\n  {count} {reason}, such as {example[reason]}" for reason, count in common if reason in example)
