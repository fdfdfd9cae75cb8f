"""Routes of assistants."""

from __future__ import annotations

from flask import Blueprint, Response, request

from trellis.api import body, wire
from trellis.api.current import condition, rt, tenant_id
from trellis.api.schemas import AssistantCount, AssistantSearch
from trellis.db.assistants import Query
from trellis.domain.ids import default_assistant_id
from trellis.domain.pages import Page
from trellis.errors import NotSupported
from trellis.services import assistants

blueprint = Blueprint("assistants", __name__)


@blueprint.get("/assistants/<assistant_id>")
def get(assistant_id: str) -> Response:
    """Get an assistant."""
    assistant_id = body.identifier(assistant_id, "assistant")
    return wire.answer(wire.assistant(assistants.get(rt(), tenant_id(), assistant_id)))


@blueprint.get("/assistants/<assistant_id>/schemas")
def graph_schemas(assistant_id: str) -> Response:
    """Get the schemas of an assistant's graph."""
    assistant_id = body.identifier(assistant_id, "assistant")
    graph = assistants.describe_graph(rt(), tenant_id(), assistant_id)
    return wire.answer(wire.graph_schemas(graph))


@blueprint.get("/assistants/<assistant_id>/graph")
def graph(assistant_id: str) -> Response:
    """Get the drawing of an assistant's graph; the graph's name will do for its id."""
    if assistant_id in rt().manifest.graphs:
        assistant_id = default_assistant_id(assistant_id, tenant_id())
    assistant_id = body.identifier(assistant_id, "assistant")
    if request.args.get("xray", "false").lower() != "false":
        raise NotSupported("xray is not supported yet by this version. Leave it out.")
    return wire.answer(
        assistants.describe_graph(rt(), tenant_id(), assistant_id)["info"]["drawing"]
    )


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


def _query(wanted: AssistantCount) -> Query:
    return Query(
        metadata=wanted.metadata or {},
        graph_id=wanted.graph_id,
        name=wanted.name,
        allowed=condition("assistants"),
    )
