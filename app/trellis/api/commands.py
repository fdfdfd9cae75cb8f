"""
The commands of protocol v2 to a thread: one route, whose answers are the protocol's own.

A frame of a WebSocket is the same request with `FRAME` in its environment: then every answer is the protocol's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import orjson
from flask import Blueprint, Response, g, request

from trellis.api import body, idempotency, new_run, refusals, wire
from trellis.api.command_schemas import (
    AgentGetTree,
    InputInject,
    InputRespond,
    RunStart,
    StateFork,
    StateGet,
    StateListCheckpoints,
    respell,
)
from trellis.api.current import request_id, rt, signed, tenant_id
from trellis.api.schemas import Command, RunCreate
from trellis.domain.new_run import NewRun
from trellis.errors import (
    BadRequest,
    CommandError,
    Denied,
    Invalid,
    NotSupported,
    TrellisError,
    Unavailable,
)
from trellis.services import commands, feeds, state
from trellis.services.runs import RunRow
from trellis.stream import encoder

blueprint = Blueprint("commands", __name__)

#: The key of the WSGI environment that says that the request is a frame of a WebSocket.
FRAME = "trellis.frame"

T = TypeVar("T")
Params = dict[str, Any]

#: What a run that a command starts streams. Its events are those of every channel.
_MODES = (
    "values",
    "updates",
    "messages",
    "tools",
    "lifecycle",
    "custom",
    "tasks",
    "checkpoints",
)
_ENVELOPE = "Protocol commands must include an integer id and string method."
_SUBSCRIBE = (
    "Subscriptions belong to a WebSocket. Open /threads/{thread_id}/stream/events: as a WebSocket, or with POST and "
    "the channels in its body."
)


@blueprint.post("/threads/<thread_id>/commands")
def handle(thread_id: str) -> Response:
    """Send a command of protocol v2 to a thread."""
    sent = _sent()
    try:
        idempotency.key()
    except Invalid as error:
        # A header is no part of the command.
        return refusals.explain(error)
    if not _is_envelope(sent):
        raise CommandError("invalid_argument", _ENVELOPE)
    act = _METHODS.get(sent["method"])
    if act is None:
        raise CommandError("unknown_command", f"Unknown protocol command: {sent['method'][:100]}")
    params = {} if sent.get("params") is None else sent["params"]
    if not isinstance(params, dict):
        raise CommandError("invalid_argument", "params must be an object.")
    thread_id = body.identifier(thread_id, "thread")
    # Clients take what comes up to there for old, questions too: it is read before the command makes a run.
    through = feeds.settled(rt(), tenant_id(), thread_id)
    result = act(thread_id, params)
    # A command that was sent before made its run then: all that has happened since may be news.
    meta = {"applied_through_seq": 0 if idempotency.is_replay() else through}
    told = {"type": "success", "id": sent["id"], "result": result, "meta": meta}
    return wire.raw_answer(encoder.dumps(told))


# The commands, by method


def _run_start(thread_id: str, params: Params) -> dict[str, Any]:
    if not isinstance(params.get("assistant_id"), str):
        raise CommandError("invalid_argument", "run.start requires an assistant_id.")
    respell(params)
    wanted = _shape(params, RunStart)
    new = _new(
        RunCreate(
            assistant_id=wanted.assistant_id,
            input=wanted.input,
            config=wanted.config,
            metadata=wanted.metadata,
            langsmith_tracer=wanted.langsmith_tracer,
            multitask_strategy=wanted.multitask_strategy,
            if_not_exists="create",
        )
    )
    return _started(commands.start(rt(), tenant_id(), thread_id, new, key=idempotency.key()))


def _input_respond(thread_id: str, params: Params) -> dict[str, Any]:
    """Answer questions by their ids, which are unique on a thread, whatever subgraph asks."""
    if "responses" not in params:
        params = {**params, "responses": [params]}
    elif "interrupt_id" in params or "response" in params:
        raise CommandError("invalid_argument", "Give either responses, or interrupt_id.")
    wanted = _shape(params, InputRespond)
    answers = {each.interrupt_id: each.response for each in wanted.responses}

    def compose(assistant_id: str) -> NewRun:
        return _new(
            RunCreate(
                assistant_id=assistant_id,
                command=Command(resume=answers, update=wanted.update, goto=wanted.goto),
                config=wanted.config,
                metadata=wanted.metadata,
                strict_resume=wanted.strict_resume,
            )
        )

    key = idempotency.key()
    _started(commands.respond(rt(), tenant_id(), thread_id, answers, compose, key=key))
    return {}


def _input_inject(thread_id: str, params: Params) -> dict[str, Any]:
    """The message is the input of the next run: it comes in when what runs now is over."""
    wanted = _shape(params, InputInject)
    if wanted.namespace:
        raise CommandError(
            "not_supported", "Messages can be injected into the root graph only: namespace []."
        )

    def compose(assistant_id: str) -> NewRun:
        message = {"role": wanted.message.role, "content": wanted.message.content}
        named = {"name": wanted.message.name} if wanted.message.name else {}
        return _new(
            RunCreate(assistant_id=assistant_id, input={"messages": [{**message, **named}]})
        )

    key = idempotency.key()
    _started(commands.follow_up(rt(), tenant_id(), thread_id, compose, key=key))
    return {}


def _state_get(thread_id: str, params: Params) -> dict[str, Any]:
    wanted = _shape(params, StateGet)
    with _within(wanted.namespace) as where:
        snapshot = state.read(rt(), tenant_id(), thread_id, where=where, subgraphs=False)
    if snapshot is None or snapshot.created_at is None:
        if wanted.namespace:
            raise _no_such_namespace(wanted.namespace)
        return {"values": {}}
    values = snapshot.values
    if wanted.keys is not None:
        values = {name: values[name] for name in wanted.keys if name in _keys(values)}
    return {"values": values, "checkpoint": _checkpoint(snapshot)}


def _state_list_checkpoints(thread_id: str, params: Params) -> dict[str, Any]:
    wanted = _shape(params, StateListCheckpoints)
    with _within(wanted.namespace) as where:
        snapshots = state.history(
            rt(),
            tenant_id(),
            thread_id,
            where=where,
            before=wanted.before,
            metadata={},
            limit=wanted.limit,
        )
    if wanted.namespace and not snapshots and wanted.before is None:
        raise _no_such_namespace(wanted.namespace)
    return {"checkpoints": [_summary(each) for each in snapshots]}


def _state_fork(thread_id: str, params: Params) -> dict[str, Any]:
    wanted = _shape(params, StateFork)

    def compose(assistant_id: str) -> NewRun:
        return _new(
            RunCreate(
                assistant_id=assistant_id,
                input=wanted.input,
                config=wanted.config,
                checkpoint_id=wanted.checkpoint_id,
            )
        )

    ids = tenant_id(), thread_id
    made = commands.follow_up(
        rt(), *ids, compose, checkpoint_id=wanted.checkpoint_id, key=idempotency.key()
    )
    return {**_started(made), "thread_id": thread_id}


def _agent_get_tree(thread_id: str, params: Params) -> dict[str, Any]:
    wanted = _shape(params, AgentGetTree)
    run_id = body.identifier_or_none(wanted.run_id, "run")
    return {"tree": commands.tree(rt(), tenant_id(), thread_id, run_id)}


def _subscription(thread_id: str, _: Params) -> dict[str, Any]:
    raise CommandError("not_supported", _SUBSCRIBE.format(thread_id=thread_id))


_METHODS: Mapping[str, Callable[[str, Params], dict[str, Any]]] = {
    "run.start": _run_start,
    "input.respond": _input_respond,
    "input.inject": _input_inject,
    "state.get": _state_get,
    "state.listCheckpoints": _state_list_checkpoints,
    "state.fork": _state_fork,
    "agent.getTree": _agent_get_tree,
    "subscription.subscribe": _subscription,
    "subscription.unsubscribe": _subscription,
    "subscription.reconnect": _subscription,
}


def _new(create: RunCreate) -> NewRun:
    return replace(
        signed(new_run.on_thread(create, request_id())),
        stream_mode=_MODES,
        stream_subgraphs=True,
        stream_resumable=True,
        event_streaming=True,
    )


def _started(made: tuple[RunRow, bool]) -> dict[str, Any]:
    run, is_replay = made
    if is_replay:
        idempotency.replayed()
    return {"run_id": run["run_id"]}


def _shape(params: Params, into: type[T]) -> T:
    try:
        return body.shape(params, into)
    except Invalid as error:
        raise CommandError("invalid_argument", error.detail) from None


@contextmanager
def _within(namespace: list[str]) -> Iterator[dict[str, Any]]:
    """Where a namespace is. What the graph refuses to look up there is a namespace it does not have."""
    try:
        yield {"checkpoint_ns": "|".join(namespace)}
    except BadRequest:
        if not namespace:
            raise
        raise _no_such_namespace(namespace) from None


def _keys(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise CommandError("invalid_argument", "This state has no keys. Leave keys out.")
    return values


def _no_such_namespace(namespace: list[str]) -> CommandError:
    return CommandError("no_such_namespace", f"Unknown namespace: {'|'.join(namespace)[:200]}")


def _summary(snapshot: Any) -> dict[str, Any]:
    return {
        "id": _checkpoint(snapshot)["id"],
        "timestamp": snapshot.created_at,
        "step": snapshot.metadata.get("step"),
        "metadata": snapshot.metadata,
    }


def _checkpoint(snapshot: Any) -> dict[str, Any]:
    place = snapshot.config["configurable"]
    namespace = {"ns": place["checkpoint_ns"]} if place.get("checkpoint_ns") else {}
    return {"id": place["checkpoint_id"], **namespace}


# What is sent, and refused


def _sent() -> Any:
    if "body" not in g:
        g.body = body.data()
    return g.body


def _is_envelope(sent: Any) -> bool:
    return isinstance(sent, dict) and _is_id(sent.get("id")) and isinstance(sent.get("method"), str)


def _is_id(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 0


@blueprint.errorhandler(TrellisError)
def _refuse(error: TrellisError) -> Response:
    if isinstance(error, Invalid) and "body" not in g:
        detail = error.detail.replace("Invalid JSON in request body", "Invalid JSON body")
        return wire.answer({"detail": detail}, status=400)
    if isinstance(error, Unavailable) or (isinstance(error, Denied) and "body" not in g):
        # Nobody has read the command: it is not known who sends it, or it may be sent again.
        return refusals.explain(error)
    status = 200 if _is_envelope(_sent()) else 400
    return wire.answer(_error(_code(error), _told(error)), status=status)


def _code(error: TrellisError) -> str:
    match error:
        case CommandError():
            return error.code
        case Denied():
            return "permission_denied"
        case NotSupported():
            return "not_supported"
        case _:
            return "unknown_error"


def _told(error: TrellisError) -> str:
    if isinstance(error, CommandError | NotSupported):
        return error.detail
    return f"{error.status}: {error.detail}"


def _error(code: str, message: str) -> dict[str, Any]:
    sent = g.get("body")
    given = sent.get("id") if isinstance(sent, dict) else None
    return {"type": "error", "id": given, "error": code, "message": message}


@blueprint.after_request
def _as_frame(response: Response) -> Response:
    """For a WebSocket, the answer is the protocol's, whatever went wrong."""
    if FRAME not in request.environ or response.status_code < 400:
        return response
    try:
        told = orjson.loads(response.get_data())
    except orjson.JSONDecodeError:
        told = {"detail": response.get_data(as_text=True)}
    if "type" not in told:
        told = _as_error(response.status_code, cast(str, told["detail"]))
    return wire.answer(told)


def _as_error(status: int, detail: str) -> dict[str, Any]:
    if "body" not in g and status == 400:
        return _error("invalid_argument", detail.replace("Invalid JSON body", _NO_JSON))
    code = "permission_denied" if status in (401, 403) else "unknown_error"
    return _error(code, f"{status}: {detail}")


_NO_JSON = "Protocol commands must be valid JSON."
