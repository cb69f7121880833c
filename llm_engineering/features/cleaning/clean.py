"""Raw bodies into clean text, each media type in its own way."""

from llm_engineering.features.cleaning.cleaned import Cleaned

_CODE = {
    *("application/json", "application/x-yaml", "application/yaml", "application/toml", "application/xml", "text/xml"),
    *("application/javascript", "application/x-sh", "application/sql", "text/css", "text/javascript", "text/csv"),
}
_HTML = {"text/html", "application/xhtml+xml"}
_MARKDOWN = {"text/markdown", "text/x-markdown"}
_NOTEBOOK = {"application/x-ipynb+json"}


def clean_body(body: str, media_type: str) -> Cleaned:
    """Clean text of any body the warehouse keeps; `text` is "" when nothing is left. A PDF's body is its base64.

    HTML becomes Markdown, code stays exactly as it is, other text stays as it was written. Raises CleaningError when
    the body is not what its media type says, or cannot be opened.
    """
    kind = _kind(media_type)
    if kind in _HTML:
        return clean_html(body, media_type)
    if kind == "application/pdf":
        from llm_engineering.features.cleaning.pdf import clean_pdf

        return clean_pdf(body)
    if kind in _NOTEBOOK:
        from llm_engineering.features.cleaning.notebooks import clean_notebook

        return clean_notebook(body)
    from llm_engineering.features.cleaning.plain import clean_code, clean_markdown, clean_text

    if kind in _MARKDOWN:
        return clean_markdown(body)
    if kind in _CODE or kind.startswith("text/x-") or kind.endswith(("+json", "+xml")):
        return Cleaned(clean_code(body), "code")
    return Cleaned(clean_text(body), "text")


def clean_html(body: str, media_type: str, *, without: tuple[str, ...] = ()) -> Cleaned:
    """As `clean_body`; of HTML, what the XPath expressions `without` match is taken away first."""
    if _kind(media_type) not in _HTML:
        return clean_body(body, media_type)
    from llm_engineering.features.cleaning.html import html_to_markdown

    return html_to_markdown(body, without=without)


def _kind(media_type: str) -> str:
    """Without parameters, such as a charset."""
    return media_type.partition(";")[0].strip().lower()
