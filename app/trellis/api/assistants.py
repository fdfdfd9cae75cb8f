"""Routes of assistants."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from msgspec import UNSET
from msgspec.structs import asdict

from trellis.api import body, wire
from trellis.api.current import condition, rt, tenant_id
from trellis.api.schemas import (
    AssistantCount,
    AssistantCreate,
    AssistantPatch,
    AssistantSearch,
    AssistantVersionChange,
    AssistantVersionsSearch,
    Config,
)
from trellis.db.assistants import Query
from trellis.domain.ids import default_assistant_id, new_id
from trellis.domain.pages import Page
from trellis.errors import Invalid
from trellis.services import assistants
from trellis.services.assistants import Change, New

blueprint = Blueprint("assistants", __name__)


@blueprint.post("/assistants")
def create() -> Response:
    """Create an assistant: a graph with settings of its own."""
    wanted = body.json_body(AssistantCreate)
    new = New(
        assistant_id=body.identifier_or_none(wanted.assistant_id, "assistant") or new_id(),
        graph_id=wanted.graph_id,
        name=wanted.name or "Untitled",
        description=wanted.description,
        metadata=body.metadata(wanted.metadata),
        config=_config(wanted.config),
        context=wanted.context,
        keep_existing=wanted.if_exists == "do_nothing",
        allowed=condition("assistants"),
    )
    return wire.answer(wire.assistant(assistants.create(rt(), tenant_id(), new)))


@blueprint.patch("/assistants/<assistant_id>")
def patch(assistant_id: str) -> Response:
    """Change an assistant: its next version becomes the latest."""
    assistant_id = _assistant_id(assistant_id)
    wanted = body.json_body(AssistantPatch)
    given = {"graph_id": wanted.graph_id, "name": wanted.name}
    fields: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if wanted.description is not UNSET:
        fields["description"] = wanted.description
    change = Change(
        fields=fields,
        metadata=body.metadata(wanted.metadata),
        config=_config(wanted.config),
        context=wanted.context,
    )
    return wire.answer(wire.assistant(assistants.change(rt(), tenant_id(), assistant_id, change)))


@blueprint.delete("/assistants/<assistant_id>")
def delete(assistant_id: str) -> Response:
    """Delete an assistant with its versions and crons, stop its runs, and delete its threads if asked to."""
    assistant_id = _assistant_id(assistant_id)
    with_threads = body.flag("delete_threads")
    assistants.delete(
        rt(),
        tenant_id(),
        assistant_id,
        with_threads=with_threads,
        allowed=condition("threads") if with_threads else None,
    )
    return wire.nothing()


@blueprint.post("/assistants/<assistant_id>/versions")
def versions(assistant_id: str) -> Response:
    """List an assistant's versions, newest first."""
    assistant_id = _assistant_id(assistant_id)
    wanted = body.json_body(AssistantVersionsSearch)
    rows = assistants.versions(
        rt(),
        tenant_id(),
        assistant_id,
        metadata=wanted.metadata or {},
        limit=wanted.limit,
        offset=wanted.offset,
    )
    return wire.answer([wire.assistant_version(row) for row in rows])


@blueprint.post("/assistants/<assistant_id>/latest")
def set_latest(assistant_id: str) -> Response:
    """Make an assistant what one of its versions is."""
    assistant_id = _assistant_id(assistant_id)
    version = body.json_body(AssistantVersionChange).version
    row = assistants.set_latest(rt(), tenant_id(), assistant_id, version=version)
    return wire.answer(wire.assistant(row))


@blueprint.get("/assistants/<assistant_id>")
def get(assistant_id: str) -> Response:
    """Get an assistant."""
    assistant_id = _assistant_id(assistant_id)
    return wire.answer(wire.assistant(assistants.get(rt(), tenant_id(), assistant_id)))


@blueprint.get("/assistants/<assistant_id>/schemas")
def graph_schemas(assistant_id: str) -> Response:
    """Get the schemas of an assistant's graph."""
    assistant_id = _assistant_id(assistant_id)
    graph = assistants.describe_graph(rt(), tenant_id(), assistant_id)
    return wire.answer(wire.graph_schemas(graph))


@blueprint.get("/assistants/<assistant_id>/graph")
def graph(assistant_id: str) -> Response:
    """Get the drawing of an assistant's graph; the graph's name will do for its id."""
    if assistant_id in rt().manifest.graphs:
        assistant_id = default_assistant_id(assistant_id, tenant_id())
    assistant_id = _assistant_id(assistant_id)
    return wire.answer(assistants.draw(rt(), tenant_id(), assistant_id, xray=_xray()))


@blueprint.get("/assistants/<assistant_id>/subgraphs")
def subgraphs(assistant_id: str) -> Response:
    """Get the schemas of a graph's subgraphs by namespace; recurse for those inside them."""
    return _subgraphs(assistant_id, None)


@blueprint.get("/assistants/<assistant_id>/subgraphs/<namespace>")
def subgraph(assistant_id: str, namespace: str) -> Response:
    """Get the schemas of the subgraph at a namespace; of one inside another only with recurse."""
    return _subgraphs(assistant_id, namespace)


def _subgraphs(assistant_id: str, namespace: str | None) -> Response:
    assistant_id = _assistant_id(assistant_id)
    recurse = body.flag("recurse")
    found = assistants.subgraphs(
        rt(), tenant_id(), assistant_id, namespace=namespace, recurse=recurse
    )
    return wire.answer({name: wire.schemas(row) for name, row in found.items()})


def _xray() -> int | None:
    """How deep to look into subgraphs. None: all the way."""
    given = request.args.get("xray", "false").lower()
    if given in ("true", "false"):
        return None if given == "true" else 0
    if given.isascii() and given.isdecimal() and len(given) < 10 and int(given) > 0:
        return int(given)
    raise Invalid("Invalid xray value")


@blueprint.post("/assistants/search")
def search() -> Response:
    """Search assistants, newest first."""
    wanted = body.json_body(AssistantSearch)
    page = Page(
        limit=wanted.limit + 1,
        offset=wanted.offset,
        sort_by=wanted.sort_by or "created_at",
        sort_order=wanted.sort_order or "desc",
    )
    found = assistants.search(rt(), tenant_id(), query=_query(wanted), page=page)
    rows, headers = wire.page(found, limit=wanted.limit, offset=wanted.offset)
    shown = [wire.selected(wire.assistant(row), wanted.select) for row in rows]
    return wire.answer(shown, headers=headers)


@blueprint.post("/assistants/count")
def count() -> Response:
    """Count assistants."""
    wanted = body.json_body(AssistantCount)
    return wire.answer(assistants.count(rt(), tenant_id(), query=_query(wanted)))


def _assistant_id(text: str) -> str:
    return body.identifier(text, "assistant")


def _config(given: Config | None) -> dict[str, Any] | None:
    if given is None:
        return None
    body.metadata(given.metadata)
    return {key: value for key, value in asdict(given).items() if value is not None}


def _query(wanted: AssistantCount) -> Query:
    return Query(
        metadata=wanted.metadata or {},
        graph_id=wanted.graph_id,
        name=wanted.name,
        allowed=condition("assistants"),
    )
