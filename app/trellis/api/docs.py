"""The reference page: one HTML document with everything in it, made from the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2f7d4f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 2rem 1rem; }
h1 { margin: 0; } h2 { margin: 2.5rem 0 .5rem; text-transform: capitalize; }
nav { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1rem 0; } a { color: var(--accent); }
details { border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0; padding: 0 .8rem; }
summary { cursor: pointer; padding: .5rem 0; display: flex; gap: .8rem; align-items: baseline; }
summary::-webkit-details-marker { display: none; }
b.method { font: 600 .75rem ui-monospace, monospace; color: var(--accent); min-width: 3.5rem; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; } .says { color: #888; margin-left: auto; }
pre { background: var(--soft); border-radius: 6px; padding: .7rem; overflow-x: auto; }
h4 { margin: .8rem 0 .2rem; }
"""


def page(document: Mapping[str, Any]) -> str:
    """The reference of an API."""
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    links = "".join(f'<a href="#{name}">{name}</a>' for name in (*groups, "schemas"))
    sections = "".join(
        f'<h2 id="{name}">{name}</h2>{"".join(shown)}' for name, shown in groups.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>The LangGraph Server API. As data: "
        f'<a href="openapi.json">openapi.json</a></p><nav>{links}</nav>'
        f'{sections}<h2 id="schemas">schemas</h2>{schemas}</body></html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f'<details><summary><b class="method">{method.upper()}</b><code>{escape(path)}</code>'
        f'<span class="says">{escape(operation["summary"])}</span></summary>'
    ]
    if operation["parameters"]:
        parts.append(f"<h4>Parameters</h4>{_parameters(operation['parameters'])}")
    if "requestBody" in operation:
        parts.append(f"<h4>Body</h4>{_content(operation['requestBody']['content'])}")
    done = next(iter(operation["responses"].values())).get("content", {})
    parts.append(f"<h4>Answer</h4>{_content(done) or '<p>nothing</p>'}</details>")
    return "".join(parts)


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    rows = (
        f"<li><code>{escape(each['name'])}</code> in {each['in']}: "
        f"<code>{escape(json.dumps(each['schema']))}</code></li>"
        for each in parameters
    )
    return f"<ul>{''.join(rows)}</ul>"


def _content(content: Mapping[str, Any]) -> str:
    return "".join(
        f"<p><code>{escape(media)}</code></p>{_schema(shape['schema'])}"
        for media, shape in content.items()
    )


def _schema(schema: Mapping[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<p><a href="#{name}">{name}</a></p>'
    return _json(schema)


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
