"""The page at /v1/docs: the OpenAPI document as plain HTML, rendered here.

The renderers of the framework load scripts and styles from third-party hosts: such a page does not open on a machine
without internet access, and runs code that nobody here has reviewed. This page has no script, and its headers allow
none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request, Router
from litestar.datastructures import ResponseHeader
from litestar.openapi.plugins import OpenAPIRenderPlugin

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
details { border: 1px solid #ccc; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } code, pre { font: 14px/1.4 ui-monospace, monospace } pre { overflow-x: auto }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold } table { border-collapse: collapse }
summary span { color: #666 } summary code, summary code span { color: inherit } section { margin: 1.5rem 0 }
td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top }
section:target h3 { background: #fe9; color: #1b1b1b }
@media (prefers-color-scheme: dark) {
body { background: #1b1b1b; color: #eee } a { color: #8cf } summary span { color: #aaa } }
"""
_DOCUMENT = "/v1/docs/openapi.json"
_LIMITS = {"minLength": "characters at least", "maxLength": "characters at most", "minimum": "from", "maximum": "to"}
_METHODS = ("get", "post", "patch", "put", "delete")


class DocsPage(OpenAPIRenderPlugin):
    """Renders the document without any script."""

    def __init__(self) -> None:
        super().__init__(path="/", favicon='<link rel="icon" href="data:,">')

    def render(self, _request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        return "".join(_page(openapi_schema)).encode("utf-8")

    def receive_router(self, router: Router) -> None:
        """Forbid by header what the page does not use."""
        router.response_headers = (ResponseHeader(name="Content-Security-Policy", value=_POLICY),)


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = escape(info["title"])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>'
    yield f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{_STYLE}</style>'
    yield f"</head><body><h1>{title} HTTP API, version {escape(info['version'])}</h1>"
    yield f'<p>{escape(info.get("description", ""))}</p><p><a href="{_DOCUMENT}">openapi.json</a></p>'
    for path, item in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in item:
                yield from _operation(path, method, item[method])
    yield "<h2>Types</h2>"
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield f'<section id="{escape(name)}"><h3><code>{escape(name)}</code></h3>{_schema(schema)}</section>'
    yield "</body></html>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    said = escape(operation.get("description", ""))
    yield f'<details><summary><code><span class="method">{method.upper()}</span>{escape(path)}</code>'
    yield f"<br><span>{said}</span></summary>"
    schemes = [name for scheme in operation.get("security", []) for name in scheme]
    if schemes:
        kind = escape(schemes[0].replace("_", " "))
        yield f"<p>Needs the header <code>Authorization: Bearer …</code> with an {kind}.</p>"
    for parameter in operation.get("parameters", []):
        place = f"In the {escape(parameter['in'])}"
        yield f"<p>{place}: <code>{escape(parameter['name'])}</code>, {_type(parameter.get('schema', {}))}</p>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<p>Takes JSON: {_type(content.get('schema', {}))}</p>"
    answers: dict[str, list[str]] = {}
    for status, answer in sorted(operation.get("responses", {}).items()):
        shapes = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
        answers.setdefault(shapes[0] if shapes else "nothing in it", []).append(status)
    for shape, statuses in answers.items():
        yield f"<p>Answers {escape(', '.join(statuses))}: {shape}</p>"
    yield "</details>"


def _schema(schema: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(name)}</code>{'' if name in schema.get('required', []) else ' (optional)'}</td>"
        f"<td>{_type(field)}</td><td>{_said(field)}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    said = schema.get("description", "")
    return (f"<p>{escape(said)}</p>" if said else "") + f"<table>{''.join(rows)}</table>"


def _said(field: dict[str, Any]) -> str:
    example = "".join(f"<code>{escape(str(example))}</code>" for example in field.get("examples", [])[:1])
    said = escape(field.get("description", ""))
    return f"{said}; like {example}" if said and example else said or (example and f"like {example}")


def _type(schema: dict[str, Any]) -> str:
    """The type in a few words, linked to its definition."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return " or ".join(_type(arm) for arm in schema[union])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = "".join(f", {said} {schema[key]:.0f}" for key, said in _LIMITS.items() if key in schema)
    if "pattern" in schema:
        limits += f", like {schema['pattern']}"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    name = schema.get("format") or schema.get("type") or "any"
    return f"<code>{escape(str(name))}</code>{escape(limits)}"
