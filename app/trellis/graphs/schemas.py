"""What may be known of a graph without running it: schemas, drawings, subgraphs, and the channels of its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    Graph: TypeAlias = Pregel[Any, Any, Any, Any]


def info(graph: Graph) -> dict[str, Any]:
    """Describe a graph, in JSON. What cannot be described, because of a type in it, is None."""
    return {name: _attempt(describe, graph) for name, describe in _DESCRIPTIONS.items()}


def _attempt(describe: Callable[[Any], Any], graph: Any) -> Any:
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


def _drawing(graph: Graph, xray: int | bool = False) -> dict[str, Any]:
    """Nodes and edges. The class behind a node is nobody's business: only its name is told."""
    drawing = graph.get_graph(xray=xray).to_json()
    for node in drawing["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"] = {"name": node["data"]["name"]}
    return drawing


def _xrays(graph: Graph) -> list[dict[str, Any]]:
    """Drawings that look into subgraphs one level deep, two levels deep, and so on; the last one shows everything."""
    xrays = [_drawing(graph)]
    everything = _drawing(graph, True)
    while xrays[-1] != everything and len(xrays) < _DEEPEST:
        xrays.append(_drawing(graph, len(xrays)))
    return [*xrays[1:-1], everything] if len(xrays) > 1 else []


def _subgraphs(graph: Graph) -> dict[str, dict[str, Any]]:
    """The schemas of the subgraphs at every depth, by namespace: `parent|child`."""
    return {
        namespace: {name: _attempt(_DESCRIPTIONS[name], subgraph) for name in _SCHEMAS}
        for namespace, subgraph in graph.get_subgraphs(recurse=True)
    }


def _state_channels(graph: Graph) -> str | Sequence[str]:
    """The channels whose values are the state: a list, or the name of the only one."""
    channels = graph.stream_channels_asis
    return channels if isinstance(channels, str) else list(channels)


def _initial_values(graph: Graph) -> dict[str, Any]:
    """What channels of the state hold that nothing was written to: reducers begin with an empty list, say."""
    from langgraph.channels.base import BaseChannel
    from langgraph.errors import EmptyChannelError

    channels = _state_channels(graph)
    found = {}
    for name in [channels] if isinstance(channels, str) else channels:
        channel = graph.channels[name]
        with suppress(EmptyChannelError):
            if isinstance(channel, BaseChannel):
                value = channel.get()
                found[name] = list(value) if isinstance(value, set | frozenset) else value
    return found


#: Below that, everything is shown at once.
_DEEPEST = 32
_SCHEMAS = ("input_schema", "output_schema", "state_schema", "config_schema", "context_schema")
_DESCRIPTIONS: dict[str, Callable[[Any], Any]] = {
    "input_schema": _input_schema,
    "output_schema": _output_schema,
    "state_schema": _state_schema,
    "config_schema": _config_schema,
    "context_schema": _context_schema,
    "drawing": _drawing,
    "xrays": _xrays,
    "subgraphs": _subgraphs,
    "state_channels": _state_channels,
    "initial_values": _initial_values,
}
