"""
Before every view: who asks, and what the handlers say. The one place where a route is let through.

`RULES` names the events of every route. With authorization handlers, a route that is not in it is closed. What a handler
makes of the value replaces what the client sent, before the view reads it. A filter that a handler returns is checked in
SQL against the row that the path names; one that is not met makes it a row of somebody else, which the view does not
find. Where there is no such row (search, count, change of many), the view must ask `current.condition` for it: an answer
that was made without asking is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast
from uuid import UUID

import orjson
from flask import Response, g, request

from trellis import telemetry
from trellis.api import body, encryption, marks
from trellis.api.command_schemas import respell
from trellis.api.current import rt, who
from trellis.auth.request import Request
from trellis.db.access import Resource
from trellis.domain.access import NOBODY, AllOf, AnyOf, Condition, Equals, Principal, caller
from trellis.domain.ids import is_uuid, new_id
from trellis.domain.reserved import without_reserved
from trellis.errors import Denied, NotFound, TrellisError
from trellis.services import access as services
from trellis.services import assistants
from trellis.services.runs import resolve_assistant

#: The key of the WSGI environment under which the server passes on whom it has let in.
WHO = "trellis.who"

#: What anybody may see: whether the server lives, and how to talk to it.
OPEN = frozenset({"/", "/ok", "/info", "/metrics", "/docs", "/openapi.json"})

#: How the rows that an event is about are found.
Target = Literal["path", "search", "run", "made", "store"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An event: which handler is asked, what it is told, and what its filter applies to."""

    resource: str
    action: str
    fields: tuple[str, ...] = ()  #: of the body: told to the handler, and taken back from it
    rest: str | None = None  #: the name under which the rest of the body is told
    target: Target = "path"
    each: bool = False  #: the body is a list, and every item an event
    flag: str | None = None  #: only if the query string says so
    within: str | None = None  #: the field of the body that is told instead of all of it
    hidden: str = "Thread or assistant not found."  #: what is said of a run's thread

    @property
    def keeps_metadata(self) -> bool:
        """Whether metadata of the body become somebody's."""
        return "metadata" in self.fields and self.action in ("create", "update", "create_run")


_READ = Rule(resource="threads", action="read")
_UPDATE = Rule(resource="threads", action="update")
_SEARCHED = ("metadata", "values", "status", "limit", "offset", "ids", "thread_id")
_SEARCH = Rule(resource="threads", action="search", fields=_SEARCHED, target="search")
_ASKED = ("assistant_id", "metadata", "multitask_strategy", "if_not_exists", "after_seconds")
_RUN = Rule(resource="threads", action="create_run", fields=_ASKED, rest="kwargs", target="run")
_RUN_ASSISTANT = Rule(resource="assistants", action="read", fields=("assistant_id",), target="run")
_CREATE_RUN = (_RUN, _RUN_ASSISTANT)
_READ_ASSISTANT = Rule(resource="assistants", action="read")
_SEARCH_ASSISTANTS = Rule(
    resource="assistants",
    action="search",
    fields=("graph_id", "metadata", "limit", "offset"),
    target="search",
)

_SETTINGS = ("graph_id", "config", "context", "metadata", "name")
_UPDATE_ASSISTANT = Rule(resource="assistants", action="update", fields=_SETTINGS)
_CREATE_CRON = Rule(
    resource="crons",
    action="create",
    fields=("schedule", "metadata", "end_time"),
    rest="payload",
    target="made",
)
_CRON_THREAD = Rule(
    resource="threads",
    action="read",
    target="run",
    hidden="Thread with ID '{}' not found. Please verify the ID is correct and the thread hasn't been "
    "deleted or expired.",
)
_UPDATE_CRON = Rule(resource="crons", action="update", fields=("schedule", "metadata", "end_time"))
_SEARCH_CRONS = Rule(
    resource="crons",
    action="search",
    fields=("assistant_id", "thread_id", "metadata", "limit", "offset"),
    target="search",
)

#: By endpoint. A test compares it with the routes.
RULES: Mapping[str, Sequence[Rule]] = {
    "assistants.get": [_READ_ASSISTANT],
    "assistants.graph": [_READ_ASSISTANT],
    "assistants.graph_schemas": [_READ_ASSISTANT],
    "assistants.search": [_SEARCH_ASSISTANTS],
    "assistants.count": [_SEARCH_ASSISTANTS],
    "assistants.subgraph": [_READ_ASSISTANT],
    "assistants.subgraphs": [_READ_ASSISTANT],
    "assistants.versions": [_READ_ASSISTANT],
    "assistants.create": [
        Rule(
            resource="assistants",
            action="create",
            fields=("assistant_id", "if_exists", *_SETTINGS),
            target="search",
        )
    ],
    "assistants.patch": [_UPDATE_ASSISTANT],
    "assistants.set_latest": [Rule(resource="assistants", action="update")],
    "assistants.delete": [
        Rule(resource="assistants", action="delete"),
        Rule(resource="threads", action="delete", target="search", flag="delete_threads"),
    ],
    "crons.create": [_CREATE_CRON, _RUN_ASSISTANT],
    "crons.create_on_thread": [_CREATE_CRON, _RUN_ASSISTANT, _CRON_THREAD],
    "crons.get": [Rule(resource="crons", action="read")],
    "crons.patch": [_UPDATE_CRON],
    "crons.run": [Rule(resource="crons", action="update")],
    "crons.delete": [Rule(resource="crons", action="delete")],
    "crons.search": [_SEARCH_CRONS],
    "crons.count": [_SEARCH_CRONS],
    "store.put": [
        Rule(resource="store", action="put", fields=("key", "value", "index"), target="store")
    ],
    "store.get": [Rule(resource="store", action="get", target="store")],
    "store.delete": [Rule(resource="store", action="delete", fields=("key",), target="store")],
    "store.search": [
        Rule(
            resource="store",
            action="search",
            fields=("filter", "limit", "offset", "query"),
            target="store",
        )
    ],
    "store.namespaces": [
        Rule(
            resource="store",
            action="list_namespaces",
            fields=("suffix", "max_depth", "limit", "offset"),
            target="store",
        )
    ],
    "threads.copy": [_READ, Rule(resource="threads", action="create", target="made")],
    "threads.prune": [
        Rule(
            resource="threads",
            action="delete",
            fields=("thread_ids", "strategy"),
            target="search",
        )
    ],
    "threads.storage": [_READ],
    "threads.create": [
        Rule(
            resource="threads",
            action="create",
            fields=("thread_id", "metadata", "if_exists", "ttl"),
            target="search",
        )
    ],
    "threads.get": [_READ],
    "threads.patch": [Rule(resource="threads", action="update", fields=("metadata",))],
    "threads.delete": [Rule(resource="threads", action="delete")],
    "threads.search": [_SEARCH],
    "threads.count": [_SEARCH],
    "feeds.follow": [_READ],
    "feeds.events": [_READ],
    "state.update": [_UPDATE],
    "state.update_many": [_UPDATE],
    "state.patch": [_UPDATE],
    "state.get": [_READ],
    "state.get_at": [_READ],
    "state.find": [_READ],
    "state.list_history": [_READ],
    "state.search_history": [_READ],
    "runs.create": _CREATE_RUN,
    "runs.create_and_stream": _CREATE_RUN,
    "runs.create_and_wait": _CREATE_RUN,
    "runs.create_stateless": _CREATE_RUN,
    "runs.create_stateless_and_stream": _CREATE_RUN,
    "runs.create_stateless_and_wait": _CREATE_RUN,
    "runs.create_batch": [replace(rule, each=True) for rule in _CREATE_RUN],
    "runs.list_": [_READ, Rule(resource="threads", action="search")],
    "runs.get": [_READ],
    "runs.webhook": [_READ],
    "runs.get_stateless": [_READ],
    "runs.join": [_READ],
    "runs.join_stateless": [_READ],
    "runs.stream": [_READ],
    "runs.stream_stateless": [_READ],
    "runs.cancel": [_UPDATE],
    "runs.cancel_many": [
        Rule(
            resource="threads",
            action="update",
            fields=("thread_id", "run_ids", "status"),
            target="search",
        )
    ],
    "runs.delete": [Rule(resource="threads", action="delete")],
    # By method: see COMMANDS.
    "commands.handle": (),
}

_START = [replace(rule, within="params") for rule in _CREATE_RUN]
#: Another run of a thread that is there.
_GO_ON = [replace(_RUN, within="params", target="path")]
#: What a command of protocol v2 does, by its method. One that is not here does nothing.
COMMANDS: Mapping[str, Sequence[Rule]] = {
    "run.start": _START,
    "input.respond": _GO_ON,
    "input.inject": _GO_ON,
    "state.fork": _GO_ON,
    "state.get": [_READ],
    "state.listCheckpoints": [_READ],
    "agent.getTree": [_READ],
}

#: The ids of a path, and the resource whose row each of them names.
_NAMED: Mapping[str, Resource] = {
    "thread_id": "threads",
    "assistant_id": "assistants",
    "cron_id": "crons",
}
#: By action on the store: the field of the body that says where.
_PLACES = {
    "put": "namespace",
    "delete": "namespace",
    "search": "namespace_prefix",
    "list_namespaces": "prefix",
}
_NO_FILTER = (
    "a filter was returned for the store: rewrite value['namespace'] in @auth.on.store instead"
)


def check() -> None:
    """
    Let the request in, or not.

    :raises Denied: nobody knows who it is from, or a handler forbids it.
    """
    g.who = Principal()
    if request.path in OPEN or request.method == "OPTIONS":
        return
    known = request.environ.get(WHO)
    if isinstance(known, TrellisError):
        raise known
    g.who = known or _identify()
    caller.set(who())
    encryption.tell()
    assistants.welcome(rt(), who().tenant_id)
    _drop_reserved()
    if request.url_rule is None or rt().access.is_open or who().is_internal:
        return
    endpoint = cast(str, request.endpoint)
    if endpoint not in RULES:
        raise Denied(f"No rule says who may use {request.url_rule.rule}", status=403)
    for rule in _rules(endpoint):
        is_meant = rule.flag is None or body.flag(rule.flag)
        if is_meant and rt().access.decides(rule.resource, rule.action):
            _apply(rule)


def verify(response: Response) -> Response:
    """Hold back an answer for which a filter was not looked at."""
    forgotten = g.get("conditions", {}).keys() - g.get("asked", frozenset())
    forgotten |= {"store"} if "namespace" in g and "store" not in g.get("asked", ()) else set()
    if forgotten and response.status_code < 400:
        raise RuntimeError(f"{request.endpoint} ignores the filter on {sorted(forgotten)}")
    return response


def _drop_reserved() -> None:
    """Forget what the client says in metadata under keys of the server. A handler may write them."""
    for rule in _rules(request.endpoint or ""):
        if rule.keeps_metadata:
            for given in _given(rule):
                if isinstance(sent := given.get("metadata"), dict):
                    of_thread = rule.action != "create_run" and rule.resource == "threads"
                    given["metadata"] = without_reserved(sent, of_thread=of_thread)


def _identify() -> Principal:
    """For servers that have not done it before the view: under WSGI, and in tests."""
    access = rt().access
    if access.is_open:
        return Principal()

    async def content() -> bytes:
        return request.get_data(cache=True)

    given = Request(
        scope=_scope(),
        body=content,
        path_params=lambda: dict(request.view_args or {}),
    )
    return rt().on_loop(access.authenticate(given))


def _scope() -> MutableMapping[str, Any]:
    """The request as ASGI has it."""
    headers = [(k.lower().encode("latin1"), v.encode("latin1")) for k, v in request.headers.items()]
    return {
        "type": "http",
        "method": request.method,
        "path": request.root_path + request.path,
        "root_path": request.root_path,
        "query_string": request.query_string,
        "headers": headers,
        "scheme": request.scheme,
        "client": (request.remote_addr, 0) if request.remote_addr else None,
        "server": (request.host.partition(":")[0], None),
    }


# Asking


def _apply(rule: Rule) -> None:
    for given in _given(rule):
        value = _value(rule, given)
        told = orjson.dumps(value.get("metadata"))
        found = rt().on_loop(
            rt().access.decide(who(), resource=rule.resource, action=rule.action, value=value)
        )
        _take_back(rule, given, value)
        if rule.action == "create_run" or rule.target == "made":
            marked = marks.plain(value.get("metadata") or {})
            g.stamps = [*g.get("stamps", []), marks.added(orjson.loads(told), marked)]
        if rule.target == "store":
            g.namespace = tuple(value["namespace"] or ())
        if found is not None:
            _enforce(rule, found, given)


def _rules(endpoint: str) -> Sequence[Rule]:
    return _rules_of_command() if endpoint == "commands.handle" else RULES.get(endpoint, ())


def _rules_of_command() -> Sequence[Rule]:
    sent = _body()
    method = sent.get("method") if isinstance(sent, dict) else None
    if method == "run.start" and isinstance(params := sent.get("params"), dict):
        respell(params)
    return COMMANDS.get(method, ()) if isinstance(method, str) else ()


def _body() -> Any:
    """The body, as the handlers may change it; the view gets what they made of it."""
    if "body" not in g:
        # The view is to have a copy that the handlers have changed; the fingerprint is of what was sent.
        request.get_data(cache=True)
        g.body = body.data()
    return g.body


def _given(rule: Rule) -> Iterator[dict[str, Any]]:
    """The objects that were sent: the body, or each of its items. What is of another shape is for the view to refuse."""
    if not (rule.fields or rule.rest):
        yield {}
        return
    told = _body()
    if rule.within is not None:
        told = told.get(rule.within) if isinstance(told, dict) else None
    sent = told if rule.each and isinstance(told, list) else [told]
    yield from (each for each in sent if isinstance(each, dict))


def _value(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a handler is told: ids as UUIDs, and metadata that is always an object."""
    value: dict[str, Any] = {name: _as_uuid(name, given.get(name)) for name in rule.fields}
    if rule.resource == "threads" and rule.action in ("create_run", "update", "read", "search"):
        value |= {"thread_id": value.get("thread_id")}
    value |= {name: _as_uuid(name, id_) for name, id_ in (request.view_args or {}).items()}
    metadata = value.get("metadata")
    value["metadata"] = dict(metadata) if isinstance(metadata, dict) else {}
    if rule.action == "create" and f"{rule.resource[:-1]}_id" in rule.fields:
        # Chosen here and not later, so that the handler knows what it marks.
        value[f"{rule.resource[:-1]}_id"] = value[f"{rule.resource[:-1]}_id"] or UUID(new_id())
    if rule.action == "update" and "action" in request.args:
        value["action"] = request.args["action"]
    if rule.action == "create_run":
        value |= {"run_id": None, "status": "pending", "prevent_insert_if_inflight": False}
    if rule.resource == "crons" and rule.action == "create":
        value |= {"cron_id": None, "user_id": who().identity}
    if rule.rest:
        value[rule.rest] = {key: item for key, item in given.items() if key not in rule.fields}
    if rule.target == "store":
        value |= {
            "namespace": _namespace(rule, given),
            "key": given.get("key", request.args.get("key")),
        }
    return value


def _namespace(rule: Rule, given: Mapping[str, Any]) -> tuple[str, ...]:
    """The namespace of an item, or the prefix of those that are looked for: what the view would take."""
    if rule.action == "get":
        return tuple(".".join(request.args.getlist("namespace")).split("."))
    sent = given.get(_PLACES[rule.action])
    return tuple(sent) if isinstance(sent, list) else ()


def _as_uuid(name: str, given: Any) -> Any:
    """An id as handlers expect it; an assistant's may be the name of a graph."""
    if not isinstance(given, str):
        return given
    if name == "assistant_id" and given in rt().manifest.graphs:
        return UUID(resolve_assistant(rt(), who().tenant_id, given))
    return UUID(given) if name.endswith("_id") and is_uuid(given) else given


def _take_back(rule: Rule, given: dict[str, Any], value: Mapping[str, Any]) -> None:
    """What the handler made of the value is what was asked for."""
    kept = () if rule.action == "create" else ("assistant_id",)
    changed = {name: value.get(name) for name in rule.fields if name not in kept}
    if rule.rest:
        changed |= value[rule.rest]
    for name, item in changed.items():
        # Metadata of another shape is for the view to refuse.
        is_sound = name != "metadata" or isinstance(given.get(name), dict | None)
        if is_sound and (item or name in given):
            given[name] = marks.plain(item)


# Enforcing


def _enforce(rule: Rule, condition: Condition, given: Mapping[str, Any]) -> None:
    match rule.target:
        case "path":
            # For what comes after the answer has begun.
            g.filter = condition
            if _is_hidden(condition):
                g.who = replace(who(), tenant_id=NOBODY)
        case "search":
            conditions = g.get("conditions", {})
            both = AllOf(
                [condition, *([conditions[rule.resource]] if rule.resource in conditions else [])]
            )
            g.conditions = {**conditions, rule.resource: both}
        case "run":
            _enforce_run(rule, condition, given)
        case "store":
            # It has no metadata. To overlook that somebody wants it filtered would open it to everybody.
            telemetry.log().error(telemetry.AUTH_FAILED, error=_NO_FILTER)
            raise Denied("Forbidden", status=403)


def _enforce_run(rule: Rule, condition: Condition, given: Mapping[str, Any]) -> None:
    """A run on a thread, or with an assistant, that is somebody else's: they are not there."""
    named = (request.view_args or {}).get("thread_id")
    if rule.resource == "assistants":
        named = str(_as_uuid("assistant_id", given.get("assistant_id")))
        # Those that graphs have by themselves are everybody's to run.
        condition = AnyOf([Equals("created_by", "system"), condition])
    elif named:
        # For a thread that somebody else makes between this look and the insert.
        g.allowed = condition
    if named and _forbidden(cast(Resource, rule.resource), named, condition):
        raise NotFound(rule.hidden.format(named))


def _is_hidden(condition: Condition) -> bool:
    """Whether the path names something that does not meet the condition."""
    named = request.view_args or {}
    for name, resource in _NAMED.items():
        if name in named:
            return _forbidden(resource, str(_as_uuid(name, named[name])), condition)
    if "run_id" in named and is_uuid(named["run_id"]):
        return services.hides_run(rt(), who().tenant_id, str(UUID(named["run_id"])), condition)
    return False


def _forbidden(resource: Resource, named: str, condition: Condition) -> bool:
    """Whether a row is not to be touched. What is no id is for the view to refuse; spellings of one are many."""
    wanted = [str(UUID(named))] if is_uuid(named) else []
    return bool(services.forbidden(rt(), who().tenant_id, resource, wanted, condition))
