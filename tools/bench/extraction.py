"""Pages into Markdown: how much of the article, how little of the rest, and how fast, beside trafilatura's own text."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.bench.result import Bar, Benchmark

PAGES = Path(__file__).resolve().parents[3] / "shared" / "pages"
REPEATS = 3


def measure() -> Benchmark:
    """F as ../shared/README.md defines it, ours on the text of the Markdown. Page by page both are timed in turn, in
    processor time of one thread; a page's time is the best of `REPEATS`: other programs only ever add to it."""
    if not (PAGES / "gold.json").exists():
        return Benchmark(name="extraction", skipped="needs ../shared/pages, which is not here")
    import trafilatura

    from llm_engineering.features.cleaning.clean import clean_body

    gold = json.loads((PAGES / "gold.json").read_text(encoding="utf-8"))
    pages = {name: _decoded((PAGES / "html" / name).read_bytes()) for name in gold}

    def ours(html: str) -> str:
        return clean_body(html, "text/html").text

    def theirs(html: str) -> str:
        return trafilatura.extract(html) or ""

    first = next(iter(pages.values()))
    ours(first), theirs(first)  # imports and tables are loaded before anything is timed
    mine, others, seconds, other_seconds = {}, {}, [], []
    for name, html in pages.items():
        times = [(*_timed(ours, html), *_timed(theirs, html)) for _ in range(REPEATS)]
        mine[name], others[name] = plain(times[0][0]), times[0][2]
        seconds.append(min(time[1] for time in times))
        other_seconds.append(min(time[3] for time in times))
    scored, other_scored = score(mine, gold), score(others, gold)
    speed, other_speed = len(pages) / sum(seconds), len(pages) / sum(other_seconds)
    return Benchmark(
        name="extraction",
        bars=(
            Bar(
                what="F, against trafilatura's own defaults", value=scored[0] / other_scored[0], unit="x", at_least=1.0
            ),
            Bar(what="pages per second and core", value=speed, unit="pages/s", at_least=50.0),
        ),
        figures={
            "pages": f"{len(pages)}, {statistics.mean(map(len, pages.values())) / 1000:.0f} kB in the mean",
            "Markdown": f"{_scores_text(scored)}, {speed:.1f} pages/s",
            "trafilatura": f"{_scores_text(other_scored)}, {other_speed:.1f} pages/s",
            "speed, against trafilatura": f"{speed / other_speed:.2f} x",
        },
    )


def score(texts: Mapping[str, str], gold: Mapping[str, dict]) -> tuple[float, float, float]:
    """(F, precision, recall) over all segments: substrings, after white space was collapsed."""
    found = missed = wrong = 0
    for name, page in gold.items():
        text = _collapsed(texts[name])
        there = sum(_collapsed(segment) in text for segment in page["with"])
        found, missed = found + there, missed + len(page["with"]) - there
        wrong += sum(_collapsed(segment) in text for segment in page["without"])
    if not found:
        return 0.0, 0.0, 0.0
    precision, recall = found / (found + wrong), found / (found + missed)
    return 2 * precision * recall / (precision + recall), precision, recall


def plain(markdown: str) -> str:
    """The text a reader of the rendered Markdown sees, by a Markdown parser that is none of ours."""
    from markdown_it import MarkdownIt

    parts: list[str] = []
    for token in MarkdownIt("commonmark", {"html": False}).enable("table").parse(markdown):
        if token.type in ("fence", "code_block"):
            parts.append(token.content)
        for child in token.children or ():
            parts.append(" " if child.type in ("softbreak", "hardbreak") else child.content)
        parts.append("\n" if token.type == "inline" else "")
    return "".join(parts)


def _scores_text(scored: tuple[float, float, float]) -> str:
    return "F {:.3f} (P {:.3f}, R {:.3f})".format(*scored)


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _timed(clean: Callable[[str], str], html: str) -> tuple[str, float]:
    began = time.thread_time()
    text = clean(html)
    return text, time.thread_time() - began


def _decoded(data: bytes) -> str:
    """As the same detector would for both, so that neither is helped by it."""
    from trafilatura.utils import decode_file

    return decode_file(data)
