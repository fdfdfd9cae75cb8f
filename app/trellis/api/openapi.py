"""The API described: OpenAPI 3.1 made from the routes and the schemas, and a page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, current_app
from werkzeug.routing import Rule

import trellis
from trellis.api import access, cron_schemas, docs, idempotency, schemas, wire
from trellis.api.current import EXTENSION
from trellis.api.new_run import STREAM_MODES

blueprint = Blueprint("openapi", __name__)

#: The name under which the application keeps what describes the user's own app.
THEIRS = "trellis-custom-openapi"

_ARGUMENT = re.compile(r"<(\w+)>")
_REF = "#/components/schemas/{name}"
_SSE = "text/event-stream"

#: Query parameters: name, then its JSON schema.
Parameters = Mapping[str, Mapping[str, Any]]

_INTEGER = {"type": "integer"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean", "default": False}
_TEXTS = {"type": "array", "items": _TEXT}
_STATE: Parameters = {"subgraphs": _FLAG, "select": _TEXTS}
_JOIN: Parameters = {"cancel_on_disconnect": _FLAG}
_ACTION: Parameters = {
    "action": {"type": "string", "enum": ["interrupt", "rollback"], "default": "interrupt"}
}
_FOLLOW: Parameters = {
    **_JOIN,
    "stream_mode": {"type": "array", "items": {"type": "string", "enum": list(STREAM_MODES)}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What a route takes and gives, beyond what its path and its docstring say."""

    takes: Any = None  #: False: a POST without a body
    gives: Any = None
    media: str = "application/json"
    query: Parameters | None = None
    status: int = 200
    once: bool = False  #: an Idempotency-Key is honoured


#: By endpoint. A test compares it with the routes.
OPERATIONS: Mapping[str, Operation] = {
    "system.ok": Operation(gives=schemas.Health, query={"check_db": _FLAG}),
    "system.root": Operation(gives=schemas.Health, query={"check_db": _FLAG}),
    "system.info": Operation(gives=schemas.Info),
    "system.metrics": Operation(
        media="text/plain", query={"format": {"type": "string", "enum": ["prometheus", "json"]}}
    ),
    "openapi.document": Operation(gives=schemas.Object),
    "openapi.page": Operation(media="text/html"),
    "assistants.create": Operation(takes=schemas.AssistantCreate, gives=schemas.Assistant),
    "assistants.patch": Operation(takes=schemas.AssistantPatch, gives=schemas.Assistant),
    "assistants.delete": Operation(query={"delete_threads": _FLAG}, status=204),
    "assistants.versions": Operation(
        takes=schemas.AssistantVersionsSearch, gives=list[schemas.AssistantVersion]
    ),
    "assistants.set_latest": Operation(
        takes=schemas.AssistantVersionChange, gives=schemas.Assistant
    ),
    "assistants.get": Operation(gives=schemas.Assistant),
    "assistants.search": Operation(takes=schemas.AssistantSearch, gives=list[schemas.Assistant]),
    "assistants.count": Operation(takes=schemas.AssistantCount, gives=int),
    "assistants.graph": Operation(
        gives=schemas.Object,
        query={"xray": {"type": ["boolean", "integer"], "minimum": 1, "default": False}},
    ),
    "assistants.graph_schemas": Operation(gives=schemas.GraphSchemas),
    "assistants.subgraphs": Operation(
        gives=dict[str, schemas.SubgraphSchemas], query={"recurse": _FLAG}
    ),
    "assistants.subgraph": Operation(
        gives=dict[str, schemas.SubgraphSchemas], query={"recurse": _FLAG}
    ),
    "threads.create": Operation(takes=schemas.ThreadCreate, gives=schemas.Thread, once=True),
    "threads.get": Operation(
        gives=schemas.Thread, query={"include": {"type": "string", "enum": ["ttl"]}}
    ),
    "threads.patch": Operation(takes=schemas.ThreadPatch, gives=schemas.Thread),
    "threads.delete": Operation(status=204),
    "threads.search": Operation(takes=schemas.ThreadSearch, gives=list[schemas.Thread]),
    "threads.count": Operation(takes=schemas.ThreadCount, gives=int),
    "threads.copy": Operation(takes=False, gives=schemas.Thread),
    "threads.prune": Operation(takes=schemas.ThreadPrune, gives=schemas.Pruned),
    "threads.storage": Operation(gives=schemas.ThreadStorage),
    "state.get": Operation(gives=schemas.ThreadState, query=_STATE),
    "state.get_at": Operation(gives=schemas.ThreadState, query=_STATE),
    "state.find": Operation(takes=schemas.StateAtCheckpoint, gives=schemas.ThreadState),
    "state.update": Operation(takes=schemas.StateUpdate, gives=schemas.StateUpdated),
    "state.update_many": Operation(takes=schemas.StateUpdates, gives=schemas.StateUpdated),
    "state.patch": Operation(takes=schemas.StatePatch, status=204),
    "state.list_history": Operation(
        gives=list[schemas.ThreadState],
        query={"limit": {**_INTEGER, "default": 10}, "before": _TEXT, "select": _TEXTS},
    ),
    "state.search_history": Operation(
        takes=schemas.HistoryRequest, gives=list[schemas.ThreadState]
    ),
    "runs.create": Operation(takes=schemas.RunCreate, gives=schemas.Run, once=True),
    "runs.create_and_stream": Operation(takes=schemas.RunCreate, media=_SSE, once=True),
    "runs.create_and_wait": Operation(takes=schemas.RunCreate, gives=Any, once=True),
    "runs.list_": Operation(
        gives=list[schemas.Run],
        query={"limit": _INTEGER, "offset": _INTEGER, "status": _TEXT, "select": _TEXTS},
    ),
    "runs.get": Operation(gives=schemas.Run),
    "runs.cancel": Operation(
        takes=False,
        gives=schemas.Object,
        query={"wait": _FLAG, **_ACTION, "reason": {"type": "string", "enum": ["taken"]}},
    ),
    "runs.cancel_many": Operation(takes=schemas.RunsCancel, query=_ACTION, status=204),
    "runs.delete": Operation(status=204),
    "runs.join": Operation(gives=Any, query=_JOIN),
    "runs.stream": Operation(media=_SSE, query=_FOLLOW),
    "runs.create_stateless": Operation(
        takes=schemas.StatelessRunCreate, gives=schemas.Run, once=True
    ),
    "runs.create_stateless_and_stream": Operation(
        takes=schemas.StatelessRunCreate, media=_SSE, once=True
    ),
    "runs.create_stateless_and_wait": Operation(
        takes=schemas.StatelessRunCreate, gives=Any, once=True
    ),
    "runs.create_batch": Operation(takes=schemas.RunBatch, gives=list[schemas.Run], once=True),
    "crons.create": Operation(takes=cron_schemas.CronCreate, gives=cron_schemas.Cron, once=True),
    "crons.create_on_thread": Operation(
        takes=cron_schemas.ThreadCronCreate, gives=cron_schemas.Cron, once=True
    ),
    "crons.get": Operation(gives=cron_schemas.Cron),
    "crons.patch": Operation(takes=cron_schemas.CronPatch, gives=cron_schemas.Cron),
    "crons.delete": Operation(status=204),
    "crons.run": Operation(takes=False, gives=schemas.Run, once=True),
    "crons.search": Operation(takes=cron_schemas.CronSearch, gives=list[cron_schemas.Cron]),
    "crons.count": Operation(takes=cron_schemas.CronCount, gives=int),
    "runs.webhook": Operation(gives=schemas.WebhookDelivery),
    "runs.get_stateless": Operation(gives=schemas.Run),
    "runs.join_stateless": Operation(gives=Any, query=_JOIN),
    "runs.stream_stateless": Operation(media=_SSE, query=_FOLLOW),
    "dev.truncate_all": Operation(takes=schemas.Truncate, gives=schemas.Done),
    "store.put": Operation(takes=schemas.StorePut, status=204),
    "store.get": Operation(
        gives=schemas.Item | None,
        query={"namespace": _TEXTS, "key": _TEXT, "refresh_ttl": {"type": "boolean"}},
    ),
    "store.delete": Operation(takes=schemas.StoreDelete, status=204),
    "store.search": Operation(takes=schemas.StoreSearch, gives=schemas.FoundItems),
    "store.namespaces": Operation(takes=schemas.StoreNamespaces, gives=schemas.Namespaces),
}


@blueprint.get("/openapi.json")
def document() -> Response:
    """Describe this API as OpenAPI 3.1."""
    return wire.answer(_with_theirs(describe(current_app)))


@blueprint.get("/docs")
def page() -> Response:
    """Show this API's reference; works without an internet connection."""
    return Response(docs.page(describe(current_app)), content_type="text/html; charset=utf-8")


def _with_theirs(document: dict[str, Any]) -> dict[str, Any]:
    """With the routes of the user's own app, if it can describe them. Of two with the same path, ours is served."""
    describes = current_app.extensions.get(THEIRS)
    if describes is None:
        return document
    theirs = describes()
    components = theirs.get("components", {})
    return {
        **document,
        "paths": {**theirs.get("paths", {}), **document["paths"]},
        "components": {
            name: {**components.get(name, {}), **document["components"].get(name, {})}
            for name in {**components, **document["components"]}
        },
    }


def describe(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an application's routes."""
    types = [kind for each in OPERATIONS.values() for kind in (each.takes, each.gives) if kind]
    types.append(schemas.ErrorResponse)
    shapes, components = msgspec.json.schema_components(types, ref_template=_REF)
    # By identity: some types are equal to others, and some cannot be hashed.
    shape_of = dict(zip(map(id, types), shapes, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path = _ARGUMENT.sub(r"{\1}", rule.rule)
            summary = (app.view_functions[rule.endpoint].__doc__ or "").strip()
            described = _operation(rule, summary, OPERATIONS[rule.endpoint], shape_of)
            paths.setdefault(path, {})[method.lower()] = described
    security = app.extensions[EXTENSION].access.openapi
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trellis", "version": trellis.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": dict(security.get("securitySchemes", {})),
        },
        "security": list(security.get("security", [])),
    }


def _operation(
    rule: Rule, summary: str, operation: Operation, shape_of: Mapping[int, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": rule.endpoint,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": summary,
        "parameters": list(_parameters(rule, operation)),
        "responses": _responses(operation, shape_of),
    }
    if rule.rule in access.OPEN:
        described["security"] = []
    if operation.takes:
        content = {"application/json": {"schema": shape_of[id(operation.takes)]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(rule: Rule, operation: Operation) -> Iterable[dict[str, Any]]:
    for name in _ARGUMENT.findall(rule.rule):
        kind = (
            _TEXT
            if name in ("checkpoint_id", "namespace")
            else {"type": "string", "format": "uuid"}
        )
        yield {"name": name, "in": "path", "required": True, "schema": kind}
    for name, schema in (operation.query or {}).items():
        yield {"name": name, "in": "query", "required": False, "schema": schema}
    if operation.once:
        text = {"type": "string", "minLength": 1, "maxLength": 255}
        yield {"name": idempotency.HEADER, "in": "header", "required": False, "schema": text}


def _responses(operation: Operation, shape_of: Mapping[int, Any]) -> dict[str, Any]:
    shape = shape_of[id(operation.gives)] if operation.gives is not None else _TEXT
    done: dict[str, Any] = {"description": "Done"}
    if operation.status != 204:
        done["content"] = {operation.media: {"schema": shape}}
    error = {"$ref": _REF.format(name="ErrorResponse")}
    return {
        str(operation.status): done,
        "default": {
            "description": "Denied or failed; `detail` says why",
            "content": {"application/json": {"schema": error}},
        },
    }
