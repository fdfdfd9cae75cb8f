"""What may be known of a graph without running it: schemas, drawing, and the channels of its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    Graph: TypeAlias = Pregel[Any, Any, Any, Any]


def info(graph: Graph) -> dict[str, Any]:
    """Describe a graph, in JSON. What cannot be described, because of a type in it, is None."""
    return {name: _attempt(describe, graph) for name, describe in _DESCRIPTIONS.items()}


def _attempt(describe: Callable[[Graph], Any], graph: Graph) -> Any:
    # The edge to the user's types: any of them may raise anything while it describes itself.
    try:
        encoded = orjson.dumps(describe(graph))
    except Exception:
        return None
    # Postgres cannot store a NUL, not even escaped.
    return None if b"\\u0000" in encoded else orjson.loads(encoded)


def _input_schema(graph: Graph) -> dict[str, Any]:
    return graph.get_input_jsonschema()


def _output_schema(graph: Graph) -> dict[str, Any]:
    return graph.get_output_jsonschema()


def _state_schema(graph: Graph) -> dict[str, Any]:
    from langchain_core.utils.pydantic import create_model_v2

    name = graph.get_name("State")
    channels = graph.stream_channels_asis
    if isinstance(channels, str):
        return create_model_v2(name, root=(_type(graph, channels), None)).model_json_schema()
    fields = {each: (_type(graph, each), None) for each in channels}
    return create_model_v2(name, field_definitions=fields).model_json_schema()


def _type(graph: Graph, channel: str) -> Any:
    return getattr(graph.channels[channel], "ValueType", Any)


def _config_schema(graph: Graph) -> dict[str, Any]:
    """What `config.configurable` may hold; the API mirrors it and the context."""
    return graph.get_context_jsonschema() or {}


def _context_schema(graph: Graph) -> dict[str, Any] | None:
    return graph.get_context_jsonschema()


def _drawing(graph: Graph) -> dict[str, Any]:
    """Nodes and edges. The class behind a node is nobody's business: only its name is told."""
    drawing = graph.get_graph().to_json()
    for node in drawing["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"] = {"name": node["data"]["name"]}
    return drawing


def _state_channels(graph: Graph) -> str | Sequence[str]:
    """The channels whose values are the state: a list, or the name of the only one."""
    channels = graph.stream_channels_asis
    return channels if isinstance(channels, str) else list(channels)


_DESCRIPTIONS: dict[str, Callable[[Graph], Any]] = {
    "input_schema": _input_schema,
    "output_schema": _output_schema,
    "state_schema": _state_schema,
    "config_schema": _config_schema,
    "context_schema": _context_schema,
    "drawing": _drawing,
    "state_channels": _state_channels,
}
