"""The API described: OpenAPI 3.1 made from the routes and the schemas, and a page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, TypeVar, cast

import msgspec
from flask import Blueprint, Flask, Response, current_app
from werkzeug.routing import Rule

import trellis
from trellis.api import (
    access,
    body,
    command_schemas,
    cron_schemas,
    docs,
    idempotency,
    schemas,
    wire,
)
from trellis.api.current import EXTENSION
from trellis.api.new_run import STREAM_MODES
from trellis.api.texts import StatePart
from trellis.api.thread_streams import THREAD_MODES

blueprint = Blueprint("openapi", __name__)
T = TypeVar("T")

#: The name under which the application keeps what describes the user's own app.
THEIRS = "trellis-custom-openapi"

_ARGUMENT = re.compile(r"<(\w+)>")
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_SSE = "text/event-stream"

#: Query parameters: name, then its JSON schema.
Parameters = Mapping[str, Mapping[str, Any]]

_INTEGER = {"type": "integer"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean", "default": False}
_LIMIT = {**_INTEGER, "minimum": 1, "maximum": 1000, "default": 10}
_OFFSET = {**_INTEGER, "minimum": 0, "maximum": body.MAX_OFFSET, "default": 0}
_PARTS = {"type": "array", "items": msgspec.json.schema(StatePart)}
#: Parameters that cannot be sent without a value, or for which an empty text is as good as any.
_NEVER_EMPTY = ("include", "xray")
#: Of one label each, or of many with periods between them.
_LABELS = {"type": "array", "items": {**_TEXT, "pattern": r"^[^.]+(\.[^.]+)*$"}, "minItems": 1}
_STATE: Parameters = {"subgraphs": _FLAG, "select": _PARTS}
_JOIN: Parameters = {"cancel_on_disconnect": _FLAG}
_ACTION: Parameters = {
    "action": {"type": "string", "enum": ["interrupt", "rollback"], "default": "interrupt"}
}
_RESUME: Parameters = {"Last-Event-ID": _TEXT}
_FOLLOW: Parameters = {
    **_JOIN,
    "stream_mode": {"type": "array", "items": {"type": "string", "enum": list(STREAM_MODES)}},
}
_THREAD_MODES: Parameters = {
    name: {"type": "array", "items": {"type": "string", "enum": list(THREAD_MODES)}}
    for name in ("stream_mode", "stream_modes")
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What a route takes and gives, beyond what its path and its docstring say."""

    takes: Any = None  #: False: a POST without a body
    gives: Any = None
    media: Sequence[str] = (_JSON,)
    query: Parameters | None = None
    needs: Sequence[str] = ()  #: the parameters of the query that cannot be left out
    headers: Parameters | None = None
    status: int = 200
    also: Mapping[int, Any] = field(default_factory=dict)  #: other statuses; None: without a body
    tells: Sequence[str] = ()  #: headers of the answer
    once: bool = False  #: an Idempotency-Key is honoured


def _part_of(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The type of an object of which a client may select fields: none of them is certain."""
    fields = [
        (each.name, each.type | msgspec.UnsetType, msgspec.UNSET)
        for each in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(f"Selected{kind.__name__}", fields, kw_only=True)


def _listed(kind: type[msgspec.Struct]) -> Any:
    return GenericAlias(list, (kind,))


_STATE_PARTS = _part_of(schemas.ThreadState)
_PAGE = ("X-Pagination-Total", "X-Pagination-Next")
_MADE = ("Content-Location",)
_FOLLOWED = ("Content-Location", "Location")

#: By endpoint. A test compares it with the routes.
OPERATIONS: Mapping[str, Operation] = {
    "system.ok": Operation(gives=schemas.Health, query={"check_db": _FLAG}),
    "system.root": Operation(gives=schemas.Health, query={"check_db": _FLAG}),
    "system.info": Operation(gives=schemas.Info),
    "system.metrics": Operation(
        media=("text/plain", _JSON),
        query={"format": {"type": "string", "enum": ["prometheus", "json"]}},
    ),
    "openapi.document": Operation(gives=schemas.Object),
    "openapi.page": Operation(media=("text/html",)),
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
    "assistants.search": Operation(
        takes=schemas.AssistantSearch, gives=_listed(_part_of(schemas.Assistant)), tells=_PAGE
    ),
    "assistants.count": Operation(takes=schemas.AssistantCount, gives=int),
    "assistants.graph": Operation(
        gives=schemas.Object,
        query={"xray": {"type": ["boolean", "integer"], "minimum": 1, "maximum": 999_999_999}},
    ),
    "assistants.graph_schemas": Operation(gives=schemas.GraphSchemas),
    "assistants.subgraphs": Operation(
        gives=dict[str, schemas.SubgraphSchemas], query={"recurse": _FLAG}
    ),
    "assistants.subgraph": Operation(
        gives=dict[str, schemas.SubgraphSchemas], query={"recurse": _FLAG}
    ),
    "threads.create": Operation(
        takes=schemas.ThreadCreate,
        gives=schemas.Thread,
        also={201: schemas.ErrorResponse},
        once=True,
    ),
    "threads.get": Operation(
        gives=schemas.Thread,
        query={"include": {"type": "array", "items": {**_TEXT, "examples": ["ttl"]}}},
    ),
    "threads.patch": Operation(
        takes=schemas.ThreadPatch,
        gives=schemas.Thread,
        headers={"Prefer": {**_TEXT, "examples": ["return=minimal"]}},
        also={204: None},
    ),
    "threads.delete": Operation(status=204),
    "threads.search": Operation(
        takes=schemas.ThreadSearch, gives=_listed(_part_of(schemas.Thread)), tells=_PAGE
    ),
    "threads.count": Operation(takes=schemas.ThreadCount, gives=int),
    "threads.copy": Operation(takes=False, gives=schemas.Thread),
    "threads.prune": Operation(takes=schemas.ThreadPrune, gives=schemas.Pruned),
    "threads.storage": Operation(gives=schemas.ThreadStorage),
    "state.get": Operation(gives=_STATE_PARTS, query=_STATE),
    "state.get_at": Operation(gives=_STATE_PARTS, query=_STATE),
    "state.find": Operation(takes=schemas.StateAtCheckpoint, gives=_STATE_PARTS),
    "state.update": Operation(takes=schemas.StateUpdate, gives=schemas.StateUpdated),
    "state.update_many": Operation(takes=schemas.StateUpdates, gives=schemas.StateUpdated),
    "state.patch": Operation(takes=schemas.StatePatch, status=204),
    "state.list_history": Operation(
        gives=_listed(_STATE_PARTS),
        query={"limit": _LIMIT, "before": _TEXT, "select": _PARTS},
    ),
    "state.search_history": Operation(takes=schemas.HistoryRequest, gives=_listed(_STATE_PARTS)),
    "feeds.events": Operation(takes=command_schemas.EventStreamRequest, media=(_SSE,)),
    "feeds.follow": Operation(media=(_SSE,), query=_THREAD_MODES, headers=_RESUME),
    "runs.create": Operation(takes=schemas.RunCreate, gives=schemas.Run, once=True, tells=_MADE),
    "runs.create_and_stream": Operation(
        takes=schemas.RunCreate, media=(_SSE,), once=True, tells=_FOLLOWED
    ),
    "runs.create_and_wait": Operation(
        takes=schemas.RunCreate, gives=Any, once=True, tells=_FOLLOWED
    ),
    "runs.list_": Operation(
        gives=_listed(_part_of(schemas.Run)),
        query={
            "limit": _LIMIT,
            "offset": _OFFSET,
            "status": _TEXT,
            "select": {"type": "array", "items": {"type": "string", "enum": list(wire.RUN_FIELDS)}},
        },
    ),
    "runs.get": Operation(gives=schemas.Run),
    "runs.cancel": Operation(
        takes=False,
        gives=schemas.Object,
        query={"wait": _FLAG, **_ACTION, "reason": {"type": "string", "enum": ["taken"]}},
        also={202: None},
        tells=_FOLLOWED,
    ),
    "runs.cancel_many": Operation(takes=schemas.RunsCancel, query=_ACTION, status=204),
    "runs.delete": Operation(status=204),
    "runs.join": Operation(gives=Any, query=_JOIN, tells=_FOLLOWED),
    "runs.stream": Operation(media=(_SSE,), query=_FOLLOW, headers=_RESUME, tells=_FOLLOWED),
    "runs.create_stateless": Operation(
        takes=schemas.StatelessRunCreate, gives=schemas.Run, once=True, tells=_MADE
    ),
    "runs.create_stateless_and_stream": Operation(
        takes=schemas.StatelessRunCreate, media=(_SSE,), once=True, tells=_FOLLOWED
    ),
    "runs.create_stateless_and_wait": Operation(
        takes=schemas.StatelessRunCreate, gives=Any, once=True, tells=_FOLLOWED
    ),
    "runs.create_batch": Operation(takes=schemas.RunBatch, gives=list[schemas.Run], once=True),
    "commands.handle": Operation(
        takes=command_schemas.ProtocolCommand,
        gives=command_schemas.ProtocolSuccess | command_schemas.ProtocolError,
        also={400: schemas.Object},
        once=True,
    ),
    "crons.create": Operation(takes=cron_schemas.CronCreate, gives=cron_schemas.Cron, once=True),
    "crons.create_on_thread": Operation(
        takes=cron_schemas.ThreadCronCreate, gives=cron_schemas.Cron, once=True
    ),
    "crons.get": Operation(gives=cron_schemas.Cron),
    "crons.patch": Operation(takes=cron_schemas.CronPatch, gives=cron_schemas.Cron),
    "crons.delete": Operation(status=204),
    "crons.run": Operation(takes=False, gives=schemas.Run, once=True, tells=_MADE),
    "crons.search": Operation(
        takes=cron_schemas.CronSearch, gives=_listed(_part_of(cron_schemas.Cron)), tells=_PAGE
    ),
    "crons.count": Operation(takes=cron_schemas.CronCount, gives=int),
    "runs.webhook": Operation(gives=schemas.WebhookDelivery),
    "runs.get_stateless": Operation(gives=schemas.Run),
    "runs.join_stateless": Operation(gives=Any, query=_JOIN, tells=_FOLLOWED),
    "runs.stream_stateless": Operation(
        media=(_SSE,), query=_FOLLOW, headers=_RESUME, tells=_FOLLOWED
    ),
    "dev.truncate_all": Operation(takes=schemas.Truncate, gives=schemas.Done),
    "store.put": Operation(takes=schemas.StorePut, status=204),
    "store.get": Operation(
        gives=schemas.Item | None,
        query={"namespace": _LABELS, "key": _TEXT, "refresh_ttl": {"type": "boolean"}},
        needs=("namespace", "key"),
    ),
    "store.delete": Operation(takes=schemas.StoreDelete, status=204),
    "store.search": Operation(takes=schemas.StoreSearch, gives=schemas.FoundItems),
    "store.namespaces": Operation(takes=schemas.StoreNamespaces, gives=schemas.Namespaces),
}


@blueprint.get("/openapi.json")
def document() -> Response:
    """Describe this API as OpenAPI 3.1."""
    return wire.answer(_with_theirs(_kept("trellis-openapi", describe)))


@blueprint.get("/docs")
def page() -> Response:
    """Show this API's reference; works without an internet connection."""
    told = _kept("trellis-docs", lambda app: docs.page(describe(app)))
    return Response(told, content_type="text/html; charset=utf-8")


def _kept(name: str, make: Callable[[Flask], T]) -> T:
    """Made once for an application: it takes longer than most requests, and anybody may ask for it."""
    if name not in current_app.extensions:
        current_app.extensions[name] = make(current_app)
    return cast(T, current_app.extensions[name])


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
    types = [
        kind
        for each in OPERATIONS.values()
        for kind in (each.takes, each.gives, *each.also.values())
        if kind
    ]
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
        content = {_JSON: {"schema": shape_of[id(operation.takes)]}}
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
        yield {
            "name": name,
            "in": "query",
            "required": name in operation.needs,
            "allowEmptyValue": name not in (*operation.needs, *_NEVER_EMPTY),
            "schema": schema,
        }
    for name, schema in (operation.headers or {}).items():
        yield {"name": name, "in": "header", "required": False, "schema": schema}
    if operation.once:
        text = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
        yield {"name": idempotency.HEADER, "in": "header", "required": False, "schema": text}


def _responses(operation: Operation, shape_of: Mapping[int, Any]) -> dict[str, Any]:
    error = {"$ref": _REF.format(name="ErrorResponse")}
    return {
        str(operation.status): _done(operation, shape_of),
        **{
            str(status): {
                "description": "Done"
                if kind is None
                else "Done in part; `detail` says what is not",
                **({"content": {_JSON: {"schema": shape_of[id(kind)]}}} if kind else {}),
            }
            for status, kind in operation.also.items()
        },
        "default": {
            "description": "Denied or failed; `detail` says why",
            "content": {_JSON: {"schema": error}},
        },
    }


def _done(operation: Operation, shape_of: Mapping[int, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done"}
    if operation.status != 204:
        shape = {} if operation.gives is None else shape_of[id(operation.gives)]
        done["content"] = {
            media: {"schema": shape if media == _JSON else _TEXT} for media in operation.media
        }
    if operation.tells:
        done["headers"] = {
            name: {"schema": _INTEGER if name in _PAGE else _TEXT} for name in operation.tells
        }
    return done
