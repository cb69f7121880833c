"""Whether retrieval got worse since the last run that was accepted."""

from llm_engineering.domain.noun import Noun
from llm_engineering.domain.statistics import Verdict, compare_estimates
from llm_engineering.inference.evaluation.report import RetrievalReport

METRIC = "mrr@10"


class Comparison(Noun):
    """`red` says why this run must not be green; empty: nothing got worse. `note` is for the reader."""

    red: str = ""
    note: str = ""


def compare(now: RetrievalReport, accepted: RetrievalReport | None, *, tolerance: float) -> Comparison:
    """The configured setting's MRR@10 on all questions, against the accepted run's.

    With the same golden set a fall of more than `tolerance` is red. When the corpus changed the questions did too, so
    then the whole interval must lie that far below.
    """
    if accepted is None:
        return Comparison(note="nothing to compare with yet: `poe eval-retrieval --accept` keeps a run as the measure")
    ours = now.of(now.configured, half="all").measures[METRIC]
    theirs = accepted.of(accepted.configured, half="all").measures[METRIC]
    same = now.golden == accepted.golden
    verdict = compare_estimates(ours, theirs, margin=tolerance, same_questions=same)
    what = f"{METRIC} {ours.value:.3f} ({now.configured}), accepted {theirs.value:.3f} ({accepted.configured})"
    note = what if same else f"{what}; the golden set changed from {accepted.golden} to {now.golden}"
    if verdict is Verdict.WORSE:
        return Comparison(red=f"retrieval got worse: {note}; tolerance {tolerance:g}", note=note)
    return Comparison(note=note)
