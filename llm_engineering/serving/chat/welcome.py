"""What the page says before the first question: what there is, or what is missing and what to run."""

from html import escape

from llm_engineering.domain.chunks import Facets
from llm_engineering.serving.api.service import Readiness

AUTHORS_NAMED = 4


def greeting_html(facets: Facets) -> str:
    names = sorted(facets.authors.values(), key=str.casefold)
    more = f" and {len(names) - AUTHORS_NAMED} more" if len(names) > AUTHORS_NAMED else ""
    by = f" by {', '.join(names[:AUTHORS_NAMED])}{more}" if names else ""
    kinds = ", ".join(f"{count:,} {kind} passages" for kind, count in sorted(facets.kinds.items()))
    return (
        f'<div class="card"><h2>What would you like to know?</h2><p>There is writing{escape(by)}: {escape(kinds)}. '
        "Each answer shows the passages it rests on; what no passage says, it does not claim.</p></div>"
    )


def empty_html() -> str:
    return (
        '<div class="card empty" role="status"><h2>Nothing is indexed yet</h2><p>There is nothing to answer from. '
        "Run this, then reload the page:</p><pre>poe run-etl\npoe run-features</pre>"
        "<p>Or, to try it with sample writing: <code>make quickstart</code></p></div>"
    )


def not_ready_html(readiness: Readiness) -> str:
    missing = "".join(
        f"<li><strong>{escape(component.name)}</strong>: {escape(component.reason or 'is being loaded')}</li>"
        for component in readiness.components
        if not component.ready
    )
    return (
        f'<div class="card empty" role="status"><h2>Not ready yet</h2><ul>{missing}</ul>'
        "<p>Reload the page in a moment. If it stays so, <code>poe doctor</code> says what is wrong; "
        "with an empty index, run <code>poe run-etl</code> and <code>poe run-features</code>.</p></div>"
    )
