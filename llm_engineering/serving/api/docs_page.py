"""`/docs`: the OpenAPI document as a page. It has no scripts, and loads nothing from anywhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: .875rem ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .5rem }
summary { cursor: pointer; padding: .5rem 0; border-top: 1px solid #8886 }
summary b { display: inline-block; min-width: 4rem; color: #0d9488 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883 }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DEPTH = 3  # levels of fields below a body


def add_docs_page(app: "FastAPI") -> None:
    from starlette.responses import HTMLResponse

    page = cache(lambda: docs_html(app.openapi()))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Any:
        return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})


def docs_html(document: Mapping[str, Any]) -> str:
    info = document["info"]
    operations = "".join(
        _operation_html(method, path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}: the API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
        f"<h1>{escape(info['title'])}: the API</h1><p>{_prose(info.get('description', ''))}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>, which any OpenAPI tool reads.</p>'
        f"{operations}</html>"
    )


def _operation_html(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    body = _json_schema(operation.get("requestBody", {}))
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer.get('description', ''))}"
        for status, answer in operation["responses"].items()
    )
    success = next((answer for status, answer in operation["responses"].items() if status.startswith("2")), {})
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        + (f"<h3>Body</h3>{_fields_html(body, document)}{_example_html(body, document)}" if body else "")
        + f"<h3>Answers</h3><table>{answers}</table>"
        + _fields_html(_json_schema(success), document)
        + "</details>"
    )


def _prose(text: str) -> str:
    """With what stands between backticks as code."""
    return re.sub(r"`([^`\n]*)`", r"<code>\1</code>", escape(text))


def _json_schema(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return content.get("content", {}).get("application/json", {}).get("schema", {})


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for; of a choice, the first that has fields."""
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "items" in schema:
        return _resolved(schema["items"], document)
    for one in schema.get("anyOf", ()):
        if "properties" in (found := _resolved(one, document)):
            return found
    return schema


def _fields_html(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(_type_name(field))}"
        f"<td>{escape(_remarks(field, needed=needed))}"
        for name, field, needed in _fields(schema, document)
    )
    return f"<table><tr><th>Field<th>Type<th>{rows}</table>" if rows else ""


def _fields(
    schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Each with its whole name, and whether it must be given."""
    resolved = _resolved(schema, document)
    for name, field in resolved.get("properties", {}).items():
        yield prefix + name, field, name in resolved.get("required", ())
        if depth < _DEPTH:
            mark = "[]." if field.get("type") == "array" else "."
            yield from _fields(field, document, f"{prefix}{name}{mark}", depth + 1)


def _type_name(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_type_name, field["anyOf"])))
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_type_name(field.get('items', {}))}"
    return str(field.get("type", "any"))


_BOUNDS = {"minimum": "at least", "maximum": "at most", "maxLength": "characters at most", "maxItems": "items at most"}


def _remarks(field: Mapping[str, Any], *, needed: bool) -> str:
    bounds = {key: value for one in (field, *field.get("anyOf", ())) for key, value in one.items() if key in _BOUNDS}
    told = (
        field.get("description", "").removesuffix("."),
        "needed" if needed else "",
        *(f"{_BOUNDS[key]} {value:g}" for key, value in bounds.items()),
        f"default {json.dumps(default)}" if isinstance(default := field.get("default"), str | int | float) else "",
    )
    return "; ".join(filter(None, told))


def _example_html(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    fields = _resolved(schema, document).get("properties", {})
    example = {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}
    return f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>" if example else ""
